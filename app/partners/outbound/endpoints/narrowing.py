"""Route handlers whose models are known only when the rooms are put together."""

from collections.abc import Callable
from functools import update_wrapper
from types import FunctionType
from typing import Any


def taking(handler: Callable[..., Any], **types: Any) -> Callable[..., Any]:
    """A copy of the handler whose parameters have these types: FastAPI reads, checks and describes them by its
    annotations."""
    assert isinstance(handler, FunctionType)
    code = (handler.__code__, handler.__globals__, handler.__name__, handler.__defaults__, handler.__closure__)
    copied = update_wrapper(FunctionType(*code), handler)
    # It would send FastAPI back to the original's annotations.
    del copied.__wrapped__
    copied.__annotations__ = {**handler.__annotations__, **types}
    return copied
