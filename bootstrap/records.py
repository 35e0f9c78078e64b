"""Small immutable records: what a dataclass is, without the 15 ms that importing `dataclasses` costs at start-up."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):
        """Tell type checkers that a subclass's annotations are its constructor's parameters; nothing at run time."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """A base whose subclasses get `__init__`, `==` and `repr` from their annotations, in order, with defaults."""

    _fields: "tuple[str, ...]" = ()

    def __init_subclass__(cls) -> None:
        cls._fields = names = tuple(name for name in cls.__annotations__ if not name.startswith("_"))
        if names:
            cls.__init__ = _first_init  # type: ignore[method-assign]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inside})"


def _first_init(self: "Any", *values: "Any", **named: "Any") -> None:
    """For the first instance of a class, which mostly is the only one: what the second one has takes time to make."""
    cls = type(self)
    cls.__init__ = _made_init
    fields = dict(zip(cls._fields, values))
    fields.update(named)
    absent = [name for name in cls._fields if name not in fields and name not in cls.__dict__]
    if len(values) > len(cls._fields) or len(fields) < len(values) + len(named) or absent or named.keys() - cls._fields:
        raise TypeError(f"cannot make a {cls.__name__}: its fields are {', '.join(cls._fields)}")
    for name in cls._fields:
        setattr(self, name, fields[name] if name in fields else cls.__dict__[name])


def _made_init(self: "Any", *values: "Any", **named: "Any") -> None:
    cls = type(self)
    cls.__init__ = _constructor(cls)
    cls.__init__(self, *values, **named)


def _constructor(cls: type) -> "Any":
    """As if written by hand."""
    names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
    scope: dict[str, Any] = {f"_{n}": cls.__dict__[n] for n in names if n in cls.__dict__}
    parameters = ", ".join(f"{n}=_{n}" if f"_{n}" in scope else n for n in names)
    body = "\n".join(f"    self.{n} = {n}" for n in names)
    exec(f"def __init__(self, {parameters}):\n{body}", scope)
    return scope["__init__"]


def make_constructors(base: "type[Record]" = Record) -> None:
    """Make those of all classes now: a process that is forked again and again does so for all its forks."""
    for cls in base.__subclasses__():
        if cls.__dict__.get("_fields"):
            cls.__init__ = _constructor(cls)  # type: ignore[method-assign]
        make_constructors(cls)


def replace(record: "T", **changes: "Any") -> "T":
    """A copy of `record` with some fields changed."""
    return type(record)(**{**record.__dict__, **changes})
