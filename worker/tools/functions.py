"""Python functions as tools: packages register them in the entry point group `voicepool.tools`.

    [project.entry-points."voicepool.tools"]
    opening_hours = "acme.tools:opening_hours"

The name of the entry point is the tool's name, the docstring its description, the type hints its parameters. It calls
nothing; the runner does.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from shared.errors import ConfigError
from worker.tools.context import ToolContext, ToolError

GROUP = "voicepool.tools"


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """A registered function, read once."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of its arguments."""
    is_async: bool
    _function: Callable[..., Any]
    _model: type[BaseModel]
    _wants_context: bool
    _names: tuple[str, ...] | None
    """Its parameters, in the order of the model's fields; None: it takes the model itself."""

    def bind(self, arguments: Mapping[str, Any], context: ToolContext) -> Callable[[], Any]:
        """Returns the call of the function with these arguments, to be made; raises ToolError.

        Calling it gives the result, or of an async function the coroutine.
        """
        try:
            given = self._model.model_validate(arguments)
        except ValidationError as error:
            raise ToolError("; ".join(_complaint(detail) for detail in error.errors())) from None
        first = (context,) if self._wants_context else ()
        if self._names is None:
            return lambda: self._function(*first, given)
        values = {name: getattr(given, f"argument_{index}") for index, name in enumerate(self._names)}
        return lambda: self._function(*first, **values)


def discover() -> Mapping[str, PythonFunction]:
    """Loads every registered function; raises ConfigError with all that cannot be used."""
    functions: dict[str, PythonFunction] = {}
    problems = []
    for point in entry_points(group=GROUP):
        try:
            if point.name in functions:
                raise ValueError("is registered twice")
            functions[point.name] = read(point.name, point.load())
        except Exception as error:  # the import of a stranger's module may raise anything
            problems.append(f"tool {point.name} ({point.value}): {_reason(error)}")
    if problems:
        raise ConfigError(problems)
    return functions


def read(name: str, function: Any) -> PythonFunction:
    """Returns the function as a tool; raises ValueError that says why it cannot be one."""
    if not inspect.isfunction(function):
        raise ValueError("is not a function")
    description = inspect.getdoc(function)
    if not description:
        raise ValueError("has no docstring: it is what the model is told")
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(f"parameter {parameter.name}: must be one that can be given by name")
        if parameter.name not in hints:
            raise ValueError(f"parameter {parameter.name}: has no type hint")
    wants_context = bool(parameters) and hints[parameters[0].name] is ToolContext
    if wants_context and parameters.pop(0).kind is inspect.Parameter.KEYWORD_ONLY:
        raise ValueError("the parameter for the ToolContext must not be keyword-only")
    model, names = _arguments(name, parameters, hints)
    return PythonFunction(
        name=name,
        description=description,
        parameters=_json_schema(model),
        is_async=inspect.iscoroutinefunction(function),
        _function=function,
        _model=model,
        _wants_context=wants_context,
        _names=names,
    )


def _arguments(
    name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> tuple[type[BaseModel], tuple[str, ...] | None]:
    if len(parameters) == 1:
        hint = hints[parameters[0].name]
        if inspect.isclass(hint) and issubclass(hint, BaseModel):
            if parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
                raise ValueError("the parameter for the model must not be keyword-only")
            return hint, None
    # The fields have names of our own: a parameter may be called `schema` or `copy`, a field of pydantic's may not.
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[f"argument_{index}"] = (hints[parameter.name], Field(default, alias=parameter.name))
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return model, tuple(parameter.name for parameter in parameters)


class _Untitled(GenerateJsonSchema):
    """Without the titles that pydantic makes up: they tell the model nothing and cost tokens in every answer."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    try:
        schema = model.model_json_schema(schema_generator=_Untitled)
    except PydanticUserError as error:
        raise ValueError(f"a parameter's type has no JSON Schema: {error.message}") from None
    schema.pop("title", None)
    schema.pop("description", None)  # the function's own docstring says it
    return schema


def _complaint(detail: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "the arguments"
    return f"{where}: {detail['msg']}"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
