"""As much of JSON Schema as docs/benchmark.schema.json uses; an unknown keyword is an error."""

TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}
KNOWN = {"$schema", "title", "description", "definitions", "$ref", "type", "const", "enum", "oneOf", "items", "minItems",
         "maxItems", "properties", "required", "additionalProperties"}


def problems(value, schema, root=None, where="document"):
    """What is wrong with a value, as lines; none when it is as the schema says."""
    root = root or schema
    unknown = set(schema) - KNOWN
    if unknown:
        return [f"{where}: the schema has {sorted(unknown)}, which this checker does not know"]
    if "$ref" in schema:
        return problems(value, root["definitions"][schema["$ref"].rsplit("/", 1)[1]], root, where)
    if "const" in schema and value != schema["const"]:
        return [f"{where}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not one of {schema['enum']}"]
    if "oneOf" in schema:
        fits = [not problems(value, choice, root, where) for choice in schema["oneOf"]]
        return [] if sum(fits) == 1 else [f"{where}: {sum(fits)} of the choices fit"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        return [f"{where}: {value!r} is not {' or '.join(kinds)}"]
    return _members(value, schema, root, where)


def _members(value, schema, root, where):
    found = []
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{where}: {len(value)} items")
        for i, item in enumerate(value):
            found += problems(item, schema.get("items", {}), root, f"{where}[{i}]")
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{where}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key in known:
                found += problems(item, known[key], root, f"{where}.{key}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{where}: {key} is not in the schema")
    return found
