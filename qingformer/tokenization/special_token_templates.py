"""The special tokens around a text or a pair, as templates of the Rust library."""

from collections.abc import Mapping

from tokenizers import processors


def frame(special_tokens: Mapping[str, str], ids: Mapping[str, int]) -> processors.TemplateProcessing:
    """[CLS] a [SEP] (segment 0) and b [SEP] (segment 1); a token that is not among the special ones is left out."""
    return around(special_tokens.get("cls_token"), special_tokens.get("sep_token"), ids)


def around(
    start: str | None, end: str | None, ids: Mapping[str, int], *, repeat: bool = False
) -> processors.TemplateProcessing:
    """start a end (segment 0) and b end (segment 1); with `repeat` the second text has a start as well."""
    single = [f"{start}:0"] * (start is not None) + ["$A:0"] + [f"{end}:0"] * (end is not None)
    second = [f"{start}:1"] * (start is not None and repeat) + ["$B:1"] + [f"{end}:1"] * (end is not None)
    return _template(single, second, (start, end), ids)


def xlnet(cls: str, sep: str, ids: Mapping[str, int]) -> processors.TemplateProcessing:
    """a <sep> (segment 0) b <sep> (segment 1) <cls> (segment 2): XLNet's order (Yang et al. 2019, arXiv 1906.08237)."""
    used = [(token, ids[token]) for token in (cls, sep)]
    pair = ["$A:0", f"{sep}:0", "$B:1", f"{sep}:1", f"{cls}:2"]
    return processors.TemplateProcessing(single=["$A:0", f"{sep}:0", f"{cls}:2"], pair=pair, special_tokens=used)


def roberta(start: str, end: str, ids: Mapping[str, int]) -> processors.TemplateProcessing:
    """<s> a </s> </s> b </s>, all of segment 0 (Liu et al. 2019, arXiv 1907.11692)."""
    single = [f"{start}:0", "$A:0", f"{end}:0"]
    return _template(single, [f"{end}:0", "$B:0", f"{end}:0"], (start, end), ids)


def _template(
    single: list[str], second: list[str], tokens: tuple[str | None, ...], ids: Mapping[str, int]
) -> processors.TemplateProcessing:
    used = {token: ids[token] for token in tokens if token is not None}
    return processors.TemplateProcessing(single=single, pair=single + second, special_tokens=list(used.items()))
