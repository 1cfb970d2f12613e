"""Reads pickles without running them.

A pickle is a program for a small stack machine; Python's own machine calls whatever the program names. This one calls
nothing that the program names: `find a global` pushes its name, `call` records what would have been called, and a
short table given by the caller says which names have a meaning here. Everything else becomes an inert `Opaque`.
"""

import io
import pickletools
import struct
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Mapping, Tuple

from .errors import ConvertError

MAX_OPCODES = 5_000_000


class Global:
    """The name of a class or function, such as `torch.FloatStorage`."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """An object that was not built: its class or function, and what it would have been built from."""

    def __init__(self, factory: Global, args: Tuple[Any, ...]) -> None:
        self.factory = factory
        self.args = args
        self.state: Any = None
        self.items: Dict[Any, Any] = {}  # what a dict subclass was filled with

    def attribute(self, name: str) -> Any:
        """What its `__dict__` would hold under `name`, or None."""
        return self.state.get(name) if isinstance(self.state, dict) else None


Handlers = Mapping[str, Callable[..., Any]]


def load(data: bytes, handlers: Handlers, persistent: Callable[[Any], Any]) -> Any:
    """The object of the pickle that is all of `data`."""
    return load_next(io.BytesIO(data), handlers, persistent)


def load_next(file: BinaryIO, handlers: Handlers, persistent: Callable[[Any], Any]) -> Any:
    """The object of the next pickle in `file`, which is left behind its end.

    handlers    functions that stand in for the globals of these paths when the pickle calls them
    persistent  turns a persistent id into an object
    """
    machine = _Machine(handlers, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= MAX_OPCODES:
                raise ConvertError(f"the pickle has more than {MAX_OPCODES} instructions")
            machine.step(opcode.name, argument)
    except _DAMAGE as error:
        raise ConvertError(f"damaged pickle: {type(error).__name__}: {error}") from None
    if len(machine.stack) != 1 or machine.outer:
        raise ConvertError("damaged pickle: it does not end in one object")
    return machine.stack[0]


# What a malformed program can make the machine and pickletools raise.
_DAMAGE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError, struct.error, AssertionError,
)  # fmt: skip


# Instructions that push the value they carry. The text forms of protocol 0 are not among them: torch never wrote it.
_PUSH = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8"
    " BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS: Dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = frozenset(["PROTO", "FRAME", "STOP"])
_PUT = frozenset(["BINPUT", "LONG_BINPUT"])
_GET = frozenset(["BINGET", "LONG_BINGET"])
_SCALARS = (str, int, float, bytes, type(None), Global, Opaque)


class _Machine:
    """The stack machine. A MARK sets the stack aside in `outer` and starts an empty one."""

    def __init__(self, handlers: Handlers, persistent: Callable[[Any], Any]) -> None:
        self.handlers = handlers
        self.persistent = persistent
        self.stack: List[Any] = []
        self.outer: List[List[Any]] = []
        self.memo: Dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            self.stack.append(argument)
        elif name in _GET:
            self.stack.append(self.memo[argument])
        elif name in _PUT:
            self.memo[argument] = self.stack[-1]
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._replace(_TUPLES[name], tuple(self.stack[-_TUPLES[name] :]))
        elif name not in _NOTHING:
            action = _ACTIONS.get(name)
            if action is None:
                raise ConvertError(f"the pickle uses {name}, which no checkpoint needs")
            action(self, argument)

    def _replace(self, count: int, value: Any) -> None:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        del self.stack[len(self.stack) - count :]
        self.stack.append(value)

    def _marked(self) -> List[Any]:
        """What stands above the last mark; the mark goes."""
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._marked()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def find_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def find_stack_global(self, _: Any) -> None:
        module, name = self.stack[-2:]
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("the name of a global is not text")
        self._replace(2, Global(module, name))

    def call(self, _: Any) -> None:
        function, args = self.stack[-2:]
        self._replace(2, self._called(function, args))

    def call_with_keywords(self, _: Any) -> None:
        function, args, _keywords = self.stack[-3:]
        self._replace(3, self._called(function, args))

    def _called(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise TypeError("only a global can be called, with a tuple")
        handler = self.handlers.get(function.path)
        return handler(*args) if handler else Opaque(function, args)

    def set_state(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Opaque):
            # (__dict__, slots) when a class has slots; nothing that is wanted lives in slots.
            target.state = state[0] if isinstance(state, tuple) and state else state
        elif not isinstance(target, dict):  # an OrderedDict's attributes, such as _metadata, have no use
            raise TypeError(f"a {type(target).__name__} has no state")

    def append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def append_many(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(_keys(items))
        elif not isinstance(target, Opaque):
            raise TypeError(f"a {type(target).__name__} cannot grow")

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def set_items(self, _: Any) -> None:
        self._set_items(self._marked())

    def _set_items(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target = target.items
        if not isinstance(target, dict):
            raise TypeError(f"a {type(target).__name__} has no items")
        target.update(_pairs(items))

    def build_list(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(items)

    def build_tuple(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(tuple(items))

    def build_frozenset(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(frozenset(_keys(items)))

    def build_dict(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(dict(_pairs(items)))

    def find_persistent(self, _: Any) -> None:
        self.stack.append(self.persistent(self.stack.pop()))


def _pairs(items: List[Any]) -> Iterable[Tuple[Any, Any]]:
    if len(items) % 2:
        raise ValueError("a key without a value")
    return zip(_keys(items[0::2]), items[1::2])


def _keys(items: Iterable[Any]) -> Iterator[Any]:
    """Values that may be hashed. Deeply nested tuples may not: their hash recurses without a limit."""
    for item in items:
        parts = item if isinstance(item, tuple) else (item,)
        if not all(isinstance(part, _SCALARS) for part in parts):
            raise TypeError(f"a {type(item).__name__} as a key")
        yield item


_ACTIONS: Dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.find_global,
    "STACK_GLOBAL": _Machine.find_stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.set_state,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_many,
    "ADDITEMS": _Machine.append_many,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "LIST": _Machine.build_list,
    "TUPLE": _Machine.build_tuple,
    "FROZENSET": _Machine.build_frozenset,
    "DICT": _Machine.build_dict,
    "BINPERSID": _Machine.find_persistent,
}
