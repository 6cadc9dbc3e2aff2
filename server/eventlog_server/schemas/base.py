"""What the models of bodies and queries have in common, and the values that many of them hold."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema

from eventlog.errors import InvalidInput
from eventlog.model.events import RUN_PATTERN
from eventlog.model.ids import MAX_COUNTER
from eventlog.slots.policy import NAME_PATTERN

M = TypeVar("M", bound=BaseModel)
ID = r"^[0-9]{1,16}-[0-9]{1,16}$"
CURSOR = r"^([0-9]{1,16}-)?[0-9]{1,16}$"
RUN = f"^{RUN_PATTERN}$"
NAME = f"^{NAME_PATTERN}$"
Visibility = Literal["public", "internal", "private"]

_INTEGER = re.compile(r"\d{1,16}", re.ASCII)
# As many decimals as languages write of a double.
_SECONDS = re.compile(r"\d{1,13}(\.\d{1,30})?", re.ASCII)
_FLAGS = {"true": True, "false": False}


class Sent(BaseModel):
    """What a client sends: strict, without unknown fields. A null stands for a field that is left out."""

    model_config = ConfigDict(extra="forbid", strict=True)
    thing: ClassVar[str] = "field"

    @model_validator(mode="before")
    @classmethod
    def _known_and_present(cls, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        for name in sent:
            if name not in cls.model_fields:
                known = f"known are {', '.join(cls.model_fields)}"
                raise InvalidInput(str(name)[:64] or cls.thing, f"unknown {cls.thing}; {known}")
        return {name: value for name, value in sent.items() if value is not None}

    def given(self) -> dict[str, Any]:
        """The fields that were sent, as plain values."""
        sent = ((name, value) for name, value in self if name in self.model_fields_set)
        return {name: value.given() if isinstance(value, Sent) else value for name, value in sent}


def with_fields(fields: Mapping[str, Any]) -> Callable[[type[M]], type[M]]:
    """Give a model fields that a table of the library declares: for each name its annotation and its `Field`."""

    def extend(model: type[M]) -> type[M]:
        return create_model(model.__name__, __base__=model, __module__=model.__module__, **fields)

    return extend


class Query(Sent):
    """The query parameters of a route. Their values arrive as text."""

    thing: ClassVar[str] = "query parameter"


def _read(form: re.Pattern[str], as_number: type[int] | type[float], meaning: str) -> BeforeValidator:
    def read(text: object) -> object:
        if not isinstance(text, str):
            return text
        if form.fullmatch(text) is None:
            raise ValueError(f"is not {meaning}")
        return as_number(text)

    return BeforeValidator(read)


def _flag(text: object) -> object:
    if text not in _FLAGS:
        raise ValueError("is neither true nor false")
    return _FLAGS[str(text)]


# Decimal ASCII digits only: no sign, no exponent, no blanks. Bounds stand before these, as they are of the number.
WHOLE = _read(_INTEGER, int, "a whole number of at most 16 decimal digits")
SECONDS = _read(_SECONDS, float, "a number of seconds in decimal digits, such as 2.5")
Counter = Annotated[int, Field(ge=0, le=MAX_COUNTER), WHOLE]
Flag = Annotated[bool, BeforeValidator(_flag)]
LEFT_OUT: Any = None
"""The default of what an answer may leave out: none, as the document says of it."""
Absent = SkipJsonSchema[None]
"""What a parameter is that was not given; it cannot be sent."""
Position = Annotated[str, Field(pattern=CURSOR)]
RunName = Annotated[str, Field(pattern=RUN)]
SlotName = Annotated[str, Field(pattern=NAME)]


class Problem(BaseModel):
    """RFC 9457. `field` and `index` say where the problem lies, as far as that is known."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(examples=["INVALID_PARAMS"])
    detail: str
    field: str = LEFT_OUT
    index: int = LEFT_OUT
    reason: Literal["full", "refused", "overloaded"] = Field(default=LEFT_OUT, description="What kind of outage it is.")
    outcome_unknown: bool = Field(default=LEFT_OUT, description="The request may have been carried out.")
