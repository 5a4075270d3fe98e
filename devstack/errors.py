"""Everything in the development stack fails with this one error: what went wrong, and what to do about it."""


class DevstackError(Exception):
    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}: {self.cure}"
