"""Going on after an error, to name all of them at once."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol


class _Several(Protocol):
    """An exception that may stand for several."""

    errors: tuple[Any, ...]

    @classmethod
    def together(cls, errors: Any) -> Any: ...


def one_by_one(error: BaseException) -> tuple[BaseException, ...]:
    """Returns the errors that an error stands for, itself where it stands for no others."""
    errors = getattr(error, "errors", None)
    return errors if isinstance(errors, tuple) and errors else (error,)


class Collector:
    """Keeps the errors of one kind that its `with` blocks end in; `finish` raises them together.

    Args:
        kind: the exception; its `errors` holds those it stands for, its `together` makes one of many.

    Example:
        found = Collector(ConfigError)
        for part in parts:
            with found:
                check(part)
        found.finish()
    """

    def __init__(self, kind: type[_Several]) -> None:
        self._kind: Any = kind
        self.errors: list[Any] = []

    def __enter__(self) -> Collector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, self._kind):
            return False
        self.add(error)
        return True

    def add(self, error: Any) -> None:
        """Keeps an error, and nothing that was said before."""
        known = {str(one) for one in self.errors}
        self.errors += [one for one in error.errors if str(one) not in known]

    def finish(self) -> None:
        """Raises what was kept, if anything was."""
        if self.errors:
            raise self._kind.together(self.errors)
