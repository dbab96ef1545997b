"""What a class takes, by its constructor's real annotations, and the text of a variable as that type."""

import ast
import csv
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fastmcp.server.auth import AuthProvider
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    PydanticUserError,
    SecretStr,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict, is_typeddict

from mcp_holdfast.settings import parse_duration

DURATIONS = re.compile(r"_(seconds|interval)$")

AS_WRITTEN = ConfigDict(url_preserve_empty_path=True)
"""For lists of issuers, whose identifiers are compared letter by letter (RFC 9728, section 2): no slash is added."""


class Unresolved:
    """The annotation of a parameter whose real one names something that cannot be found."""


class MalformedError(ValueError):
    """A text that is not of the wanted type. Never contains the text itself, which may be a secret."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor; `default` is only meant where it is not required."""

    name: str
    annotation: Any
    required: bool
    default: Any = None

    @property
    def wants(self) -> type[AuthProvider] | None:
        """The class of the providers that it takes, itself or in a list; None where it takes other values."""
        kinds = _alternatives(self.annotation)
        kinds += [item for kind in kinds for item in get_args(kind)]
        return next((kind for kind in kinds if _is_a(kind, AuthProvider)), None)

    @property
    def takes_several(self) -> bool:
        return any(_is_a(kind, Collection) for kind in _alternatives(self.annotation))

    def convert(self, text: str) -> Any:
        """Return the value that a variable's text stands for; a number of seconds may have a unit, as in `1h`.

        Raises:
            MalformedError: where it stands for none.

        """
        return convert(_seconds(text, self.annotation) if self._is_duration() else text, self.annotation)

    def _is_duration(self) -> bool:
        return bool(DURATIONS.search(self.name)) and bool({int, float} & set(_alternatives(self.annotation)))


def parameters_of(cls: type) -> dict[str, Parameter]:
    """Return the parameters of the constructor, and of its bases' as far as it forwards `**kwargs` to them."""
    found: dict[str, Parameter] = {}
    forwarded = False
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        constructor = vars(owner)["__init__"]
        signature = list(inspect.signature(constructor).parameters.values())[1:]
        for parameter in signature:
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD} or parameter.name in found:
                continue
            # What a subclass forwards it may also fill in itself: only the constructor can say what is missing.
            required = parameter.default is parameter.empty and not forwarded
            default = None if parameter.default is parameter.empty else parameter.default
            annotation = _annotation(parameter, constructor)
            found[parameter.name] = Parameter(parameter.name, annotation, required, default)
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in signature):
            break
        forwarded = True
    return found


def _annotation(parameter: inspect.Parameter, constructor: Any) -> Any:
    if parameter.annotation is parameter.empty:
        return type(parameter.default) if isinstance(parameter.default, bool | int | float) else str
    names = getattr(inspect.unwrap(constructor), "__globals__", {})
    with suppress(NameError):
        return _evaluate(parameter.annotation, names)
    with suppress(NameError):
        return _evaluate(parameter.annotation, {**_type_checking_names(names.get("__name__", "")), **names})
    return Unresolved


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    return typing.get_type_hints(holder, names)["value"]


@cache
def _type_checking_names(module_name: str) -> dict[str, Any]:
    """Import what a module imports for type checkers alone. Names that cannot be imported are left out."""
    try:
        module = importlib.import_module(module_name)
        tree = ast.parse(inspect.getsource(module))
    except (ImportError, OSError, TypeError, ValueError):
        return {}
    package = module.__package__ or ""
    names: dict[str, Any] = {}
    for statement in _type_checking_statements(tree):
        for alias in getattr(statement, "names", ()):
            with suppress(ImportError, AttributeError):
                if isinstance(statement, ast.ImportFrom):
                    source = importlib.import_module("." * statement.level + (statement.module or ""), package)
                    names[alias.asname or alias.name] = getattr(source, alias.name)
                elif isinstance(statement, ast.Import):
                    source = importlib.import_module(alias.name)
                    top = alias.name.partition(".")[0]
                    names[alias.asname or top] = source if alias.asname else importlib.import_module(top)
    return names


def _type_checking_statements(tree: ast.Module) -> list[ast.stmt]:
    return [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"
        for statement in node.body
    ]


def convert(text: str, annotation: Any) -> Any:
    """Return the value that a variable's text stands for.

    Strings and secrets are taken as they are. Booleans have every usual spelling; lists are separated by commas or
    spaces, or JSON; mappings are JSON or `key,value,key,value`.

    Raises:
        MalformedError: where it stands for none.

    """
    if annotation is Unresolved:
        raise MalformedError("has a type that is not known here", "Remove it")
    kinds = _alternatives(annotation)
    choices = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    for choice in choices:
        if text.strip().lower() == str(choice).lower():
            return choice
    if bool in kinds:
        with suppress(ValidationError):
            return TypeAdapter(bool).validate_python(text.strip())
        choices = ["true", "false", *choices]
    kinds = [kind for kind in kinds if kind is not bool and get_origin(kind) is not Literal]
    if choices and not kinds:
        raise MalformedError(f"is not {_either(choices)}", f"Write {_either(choices)}")
    return _convert_to_any_of(kinds, text)


def _seconds(text: str, annotation: Any) -> str:
    """A duration as the number of seconds that it is; a fraction only where the parameter takes one."""
    wanted = r"\d+(\.\d+)?" if float in _alternatives(annotation) else r"\d+"
    if re.fullmatch(wanted, text.strip()):
        return text
    try:
        return str(parse_duration(text))
    except ValueError:
        what, remedy = "is not a duration", "Write seconds, or a number with s, m, h or d, as in 1h"
        raise MalformedError(what, remedy) from None


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union without None."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [] if annotation is types.NoneType else [annotation]


def _either(choices: list[Any]) -> str:
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last


def _convert_to_any_of(kinds: list[Any], text: str) -> Any:
    for kind in kinds:
        if _is_a(kind, Mapping, BaseModel):
            return _validate(kind, _mapping(text))
        if _is_a(kind, Collection) and not _is_a(kind, str, bytes):
            items = _items(text)
            if len(items) == 1 and str in kinds and not _is_json(text):
                return text
            return _validate(kind, items, config=AS_WRITTEN)
    if any(_is_a(kind, AnyUrl) for kind in kinds):
        url = _validate(next(kind for kind in kinds if _is_a(kind, AnyUrl)), text.strip())
        # As it was written where a string will do: AnyUrl would add a slash.
        return text.strip() if str in kinds else url
    if str in kinds or Any in kinds:
        return text
    if SecretStr in kinds:
        return SecretStr(text)
    return _validate(Union[tuple(kinds)], text.strip(), strings=True)  # noqa: UP007 - made of a list


def _is_a(kind: Any, *classes: type) -> bool:
    origin = get_origin(kind) or kind
    return inspect.isclass(origin) and issubclass(origin, classes)


def _validate(kind: Any, value: Any, *, strings: bool = False, config: ConfigDict | None = None) -> Any:
    try:
        adapter = TypeAdapter(_with_objects(kind) if is_typeddict(kind) else kind, config=config)
        return adapter.validate_strings(value) if strings else adapter.validate_python(value)
    except PydanticUserError:
        raise MalformedError("is an object that no variable can describe", "Remove it") from None
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise MalformedError(
            f"is wrong: {detail['msg'][0].lower()}{detail['msg'][1:]}",
            "Correct it, or remove it to use the default",
        ) from None


def _with_objects(kind: Any) -> Any:
    """A mapping with named keys, some of which may want objects; pydantic takes typing's own from Python 3.12 on."""
    mapping = TypedDict(kind.__name__, typing.get_type_hints(kind), total=kind.__total__)  # type: ignore[misc]
    return with_config(ConfigDict(arbitrary_types_allowed=True))(mapping)


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("[", "{"))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"looks like JSON but is not: {error.msg} at line {error.lineno}, column {error.colno}",
            "Quote names and strings with double quotes",
        ) from None


def _items(text: str) -> Any:
    if _is_json(text):
        return _json(text)
    # Quotes are left by `docker run --env-file`, and exasol allows them.
    items = [item for item in re.split(r'[\s,"]+', text) if item]
    if not items:
        raise MalformedError("names nothing", "Give values separated by commas or spaces, or remove it")
    return items


def _mapping(text: str) -> Any:
    if _is_json(text):
        return _json(text)
    fields = [field.strip() for row in csv.reader(text.splitlines(), skipinitialspace=True) for field in row]
    if len(fields) % 2:
        raise MalformedError(
            "is neither a JSON object nor a list of keys each with its value",
            'Write it as {"key": "value"} or as key,value',
        )
    return dict(zip(fields[::2], fields[1::2], strict=True))
