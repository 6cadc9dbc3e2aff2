import orjson

from ..errors import InvalidInput


def strict_loads(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise InvalidInput("body", f"not JSON: {error}") from error
