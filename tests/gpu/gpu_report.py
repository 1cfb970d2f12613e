"""What scripts/gpu-check has found, as Markdown: steps, tables of speed for docs/performance.md, the slowest layers."""
MOST_LAYERS = 15


def in_size(row):
    return f"{row['family']} {row['variant']}" + ("" if row["width"] == row["height"] else f" {row['width']}x{row['height']}")


def roof_share(row):
    """Of the time that the chip would need at the least; empty where nothing is known of its arithmetic."""
    return f"{row['roof_ms'] * row['pictures_per_second'] / row['batch'] / 1e3:.0%}" if row["peak_tflops"] else ""


def speed_table(rows):
    """One row a network, picture size and precision."""
    lines = ["| network | precision | batch 1: ms median / P99 | batch 8: pictures/s | batch 64: pictures/s | of the roof at 64 | "
             "one picture of 64: ms | created in s | objects | same bytes |", "| --- " * 10 + "|"]
    found = {(in_size(r), r["precision"], r["tuned"], r["batch"]): r for r in rows}
    for key in sorted({key[:3] for key in found}):
        one, eight, many = (found.get((*key, batch)) for batch in (1, 8, 64))
        some = [row for row in (one, eight, many) if row]
        cells = [f"{one['median_ms']:.3f} / {one['p99_ms']:.3f}" if one else "",
                 f"{eight['pictures_per_second']:,.0f}" if eight else "", f"{many['pictures_per_second']:,.0f}" if many else "",
                 roof_share(many) if many else "", f"{many['one_picture_ms']:.3f}" if many else "",
                 f"{one['create_s']:.2f}" if one else "", " / ".join(f"{row['objects']:.0f}" for row in some),
                 "yes" if all(row["same_bytes"] for row in some) else "**no**"]
        lines.append(f"| {key[0]} | {key[1]}{', tuned' if key[2] else ''} | " + " | ".join(cells) + " |")
    return lines


def layer_table(row):
    """The layers that take the longest."""
    total = sum(layer["ms"] for layer in row["layers"])
    lines = ["", f"{in_size(row)}, {row['precision']}, batch {row['batch']}: {total:.3f} ms in {len(row['layers'])} layers", "",
             "| layer | by | us | share | TFLOP/s | GB/s |", "| --- | --- | --- | --- | --- | --- |"]
    for layer in sorted(row["layers"], key=lambda one: -one["ms"])[:MOST_LAYERS]:
        seconds = max(layer["ms"], 1e-6) / 1e3
        lines.append(f"| {layer['name'] or layer['op']} | {layer['impl'] or layer['op']} | {1e3 * layer['ms']:.1f} | "
                     f"{layer['ms'] / max(total, 1e-9):.0%} | {2e-3 * layer['gmac'] / seconds:.1f} | {1e-3 * layer['mb'] / seconds:.0f} |")
    return lines


def steps_table(steps):
    lines = ["| step | result | s |", "| --- | --- | --- |"]
    return lines + [f"| {s['step']}{' (may be missing)' if not s['required'] else ''} | {s['result']} | {s['seconds']} |" for s in steps]


def markdown(found):
    about, gpu = found["environment"], found["environment"]["gpu"]
    lines = [f"# {gpu.get('name', 'no GPU')}, {about['date']}", "",
             f"Driver {gpu.get('driver_version', '')}, CUDA {about['cuda']}, cuDNN {about['cudnn']}, {gpu.get('clocks.max.sm', '')} at most, "
             f"power limit {gpu.get('power.limit', '')}, ECC {gpu.get('ecc.mode.current', '')}, commit {about['commit']}.", "",
             *steps_table(found["steps"])]
    if found["speed"]:
        lines += ["", "From pictures in device memory, 640x640 where nothing else is said, to boxes on the host; random weights. The "
                  f"roof is that of the larger of bytes and arithmetic, layer by layer: {found['speed'][0]['copy_gbs']:,.0f} GB/s "
                  "measured by a copy, and the chip's published rate.", "", *speed_table(found["speed"])]
    for row in found["speed"]:
        lines += layer_table(row) if row.get("layers") else []
    if found["cycles"]:
        lines += ["", found["cycles"]]
    if found["pytorch"]:
        lines += ["", "The network alone in PyTorch, half precision, channels last:", "",
                  "| network | batch | eager, pictures/s | compiled, pictures/s |", "| --- | --- | --- | --- |"]
        lines += [f"| {p['network']} | {p['batch']} | {p['eager']:,.0f} | {p['compiled']:,.0f} |" for p in found["pytorch"]]
    return "\n".join(lines) + "\n"
