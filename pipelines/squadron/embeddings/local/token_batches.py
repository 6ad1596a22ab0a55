"""Token batches: texts grouped for one call of a model each."""


def token_batches(lengths: list[int], batch_tokens: int, length_step: int = 1) -> list[list[int]]:
    """Rows grouped for one call each: alike in length, longest first, at most `batch_tokens` of them with padding.

    A call is padded to its longest text, rounded up to a multiple of `length_step`.
    """
    batches: list[list[int]] = []
    padded = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not batches or (len(batches[-1]) + 1) * padded > batch_tokens:
            batches.append([])
            padded = -(-lengths[row] // length_step) * length_step
        batches[-1].append(row)
    return batches
