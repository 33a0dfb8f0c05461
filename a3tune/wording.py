"""Numbers of things, in words."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """ "1 fault" or "2,000 faults".

    Args:
        number: how many.
        one: the word for one of them.
        many: the word for none or several; ``one`` with an s when None.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
