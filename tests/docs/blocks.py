"""The code blocks of the documentation, and how each language is tried.

A block behind a line `<!-- not run: why -->` is left out. Lines of C that are no functions are run as the body of one, with
pixels, width, height, model, image, objects, on_answer and my_data at hand. Programs find a model under every name that ends in
.safetensors, and pictures under the names that the pages use.
"""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRIED = ("c", "cpp", "python", "sh", "cmake", "json")
SHOWN = ("text", "http")  # not code


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    excuse: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page):
    """The fenced blocks of a page, and indented ones, which are commands."""
    found, lines, i = [], page.read_text().split("\n"), 0
    while i < len(lines):
        start, fence = i, re.match(r"```(\w*)(.*)$", lines[i])
        if fence:
            assert not fence[2], f"{page}:{i + 1}: what is '{fence[2]}'?"
            excuse = re.match(r"<!-- not run: (.+) -->$", lines[i - 1]) if i else None
            i = lines.index("```", i + 1)
            found.append(Block(page, start + 1, fence[1], excuse[1] if excuse else "", "\n".join(lines[start + 1 : i]) + "\n"))
        elif lines[i].startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            while i + 1 < len(lines) and lines[i + 1].startswith("    "):
                i += 1
            text = "\n".join(line[4:] for line in lines[start : i + 1]) + "\n"
            if re.match(r"(build/|scripts/|cmake |python3? |PYTHONPATH|export )", text):
                found.append(Block(page, start + 1, "sh", "", text))
        i += 1
    return found


def run(command, folder, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python"), **variables}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.returncode}\n{done.stdout}"
    return done.stdout


C_PROLOGUE = """#include <libdetect/detect.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
"""
CXX_PROLOGUE = """#include <libdetect/detect.h>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
"""
C_MAIN = """static det_model *model;
static det_image image;
static det_object objects[100];
static void *my_data;
static void on_answer(void *user, const det_answer *answer) {
    (void)user, (void)answer;
}
static int snippet(const unsigned char *pixels, int width, int height) {
    (void)pixels, (void)width, (void)height;
%s
    return 0;
}
int main(void) {
    static unsigned char picture[3 * 160 * 120];
    for (size_t i = 0; i < sizeof picture; i++)
        picture[i] = (unsigned char)(i * i >> 4);
    if (det_model_open(getenv("LIBDETECT_MODEL"), &model) != DET_OK)
        return fprintf(stderr, "%%s\\n", det_last_error()), 1;
    image = (det_image){.planes = {picture}, .strides = {480}, .width = 160, .height = 120, .format = DET_RGB8};
    (void)objects, (void)my_data, (void)on_answer;
    det_model *const opened = model;
    int result = snippet(picture, 160, 120);
    det_model_close(opened);
    return result;
}
"""


def try_c(block, folder, library, compiler, cxx=False):
    """Compiles a block, alone or as the body of a function, and runs it."""
    at_top = re.search(r"^(?!if|for|while|switch|else)[\w *]+\w\([^;]*\) \{$|^struct \w+ \{$", block.text, re.M)
    whole = "int main(" in block.text
    body = block.text if at_top or whole else C_MAIN % block.text
    tail = "int main() { return 0; }\n" if at_top and not whole else ""
    source = folder / f"block_{block.line}.{'cc' if cxx else 'c'}"
    source.write_text((CXX_PROLOGUE if cxx else C_PROLOGUE) + body + tail)
    program = source.with_suffix("")
    flags = ["-std=c++11"] if cxx else ["-std=c11", "-D_GNU_SOURCE"]
    flags += ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-I", ROOT / "include"]
    run([compiler, *flags, source, "-o", program, library, f"-Wl,-rpath,{library.parent}", "-pthread"], folder)
    run([program], folder)


def try_python(block, folder, python):
    prologue = ("import numpy as np\npicture = pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)\n")
    source = folder / f"block_{block.line}.py"
    source.write_text(prologue + block.text)
    run([python, source], folder)


def try_cmake(block, folder, build):
    """Makes a project of a block. What it finds is what `build` installs, and what it fetches is this source."""
    project = folder / f"block_{block.line}"
    project.mkdir()
    (project / "main.c").write_text("#include <libdetect/detect.h>\nint main(void) { return !det_version(); }\n")
    program = "" if "add_executable(mine " in block.text else "add_executable(mine main.c)\n"
    head = "cmake_minimum_required(VERSION 3.18)\nproject(docs LANGUAGES C CXX)\n"
    (project / "CMakeLists.txt").write_text(head + program + block.text)
    run(["cmake", "--install", build, "--prefix", project / "installed"], folder)
    run(["cmake", "-S", project, "-B", project / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={project / 'installed'}",
         f"-DFETCHCONTENT_SOURCE_DIR_LIBDETECT={ROOT}", "-DDET_CUDA=OFF"], folder)  # fmt: skip
    if "FetchContent" not in block.text:  # package.embedded builds the whole library so
        run(["cmake", "--build", project / "build"], folder)


def commands(text):
    """The commands of a block, without comments, pipes and substitutions."""
    text = re.sub(r"\\\n", " ", text)
    for line in text.split("\n"):
        for part in re.split(r" && | \| ", re.sub(r"\$\([^)]*\)", "", line)):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield words


CMAKE_OPTIONS = set(re.findall(r"(?:option|set)\((DET_\w+)", "".join(
    path.read_text() for path in [ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")])))


#: Programs that run until they are stopped, or for minutes; not all are built everywhere.
LONG_RUNNING = ("detect-bench", "detect-server")


def try_command(words, folder, tools):
    """Runs what is ours and quick; of the rest, checks that files, modules and options exist."""
    program, *rest = words
    name = os.path.basename(program)
    if name in LONG_RUNNING and name not in tools:
        return
    if name in LONG_RUNNING or (name in tools and name != "python" and rest[-1:] == ["-"]):  # - : frames from a pipe
        known = run([tools[name], "--help"], folder)  # its options at least
        assert all(word in known for word in rest if word.startswith("--")), words
    elif name in tools and name != "python":
        run([tools[name], *rest], folder)
    elif program.startswith(("scripts/", "tests/", "build/")):
        path = ROOT / program
        assert path.exists() or name in tools, f"{program} does not exist"
    elif name in ("python", "python3") and rest[:1] == ["-m"]:
        if rest[1] == "libdetect":
            run([tools["python"], *rest], folder)
        else:
            options = {word.split("=")[0] for word in rest if word.startswith("--")}
            known = run([tools["python"], *rest[:2], "--help"], folder)
            assert all(option in known for option in options), f"{options} are not all options of {rest[1]}"
    elif name in ("python", "python3"):
        assert (ROOT / rest[0]).exists(), f"{rest[0]} does not exist"
        known = (ROOT / rest[0]).read_text()
        assert all(f'"{word}"' in known for word in rest if word.startswith("--")), f"what of {words} is no option?"
    elif name == "cmake":
        unknown = {match[1] for match in re.finditer(r"-D(DET_\w+)", " ".join(rest))} - CMAKE_OPTIONS
        assert not unknown, f"{unknown} are no options of CMakeLists.txt"
    elif name == "pip":
        assert rest[0] == "install" and all((ROOT / path).exists() for path in rest[1:] if "/" in path), words
    else:
        assert name in ("cc", "cd", "cp", "echo", "mkdir", "export", "apt-get", "sudo", "ctest", "ninja", "git", "curl", "docker", "ffmpeg"), f"what is {name}?"
