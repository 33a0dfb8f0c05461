"""The ways of decoding by name."""

from __future__ import annotations

from a3tune.errors import RequestError
from a3tune.evaluation.decoding import contrast, layers, opera
from a3tune.evaluation.decoding.method import Decoding

_BEAMS = 5
_TOP_P = 0.9
_SAMPLED = {"do_sample": True, "top_p": 1.0, "top_k": 0, "temperature": 1.0}

DECODINGS: dict[str, Decoding] = {
    decoding.name: decoding
    for decoding in (
        Decoding("greedy", "greedy: the most likely next token"),
        Decoding("beam", "beam search", {"beams": _BEAMS}, {"num_beams": _BEAMS, "early_stopping": False}),
        Decoding(
            "nucleus",
            "nucleus sampling (Holtzman et al., ICLR 2020)",
            {"top_p": _TOP_P, "temperature": 1.0},
            {**_SAMPLED, "top_p": _TOP_P},
        ),
        Decoding(
            "vcd",
            "VCD (Leng et al., CVPR 2024)",
            {"alpha": contrast.ALPHA, "beta": contrast.BETA, "noise_step": contrast.NOISE_STEP},
            _SAMPLED,
            contrast.vcd,
            second_reading=True,
        ),
        Decoding(
            "m3id",
            "M3ID (Favero et al., CVPR 2024)",
            {"rate": contrast.M3ID_RATE, "beta": contrast.BETA},
            _SAMPLED,
            contrast.m3id,
            second_reading=True,
        ),
        Decoding(
            "avisc",
            "AVISC (Woo et al., ACL Findings 2025)",
            {
                "alpha": contrast.ALPHA,
                "beta": contrast.BETA,
                "layer_share": contrast.AVISC_SHARE,
                "deviations": contrast.AVISC_DEVIATIONS,
            },
            _SAMPLED,
            contrast.avisc,
            second_reading=True,
        ),
        Decoding(
            "damro",
            "DAMRO (Gong et al., EMNLP 2024)",
            {"alpha": contrast.DAMRO_ALPHA, "beta": contrast.BETA, "tokens": contrast.DAMRO_TOKENS},
            _SAMPLED,
            contrast.damro,
            second_reading=True,
        ),
        Decoding(
            "pai",
            "PAI (Liu et al., ECCV 2024)",
            {
                "alpha": layers.PAI_ALPHA,
                "gamma": layers.PAI_GAMMA,
                "beta": layers.PAI_BETA,
                "first_layer": layers.PAI_FIRST_LAYER,
            },
            {},
            layers.pai,
            second_reading=True,
        ),
        Decoding("dola", "DoLa (Chuang et al., ICLR 2024)", {"relative_top": layers.DOLA_TOP}, {}, layers.dola),
        Decoding(
            "opera",
            "OPERA (Huang et al., CVPR 2024)",
            {
                "beams": opera.BEAMS,
                "scale": opera.SCALE,
                "penalty": opera.PENALTY,
                "candidates": opera.CANDIDATES,
                "threshold": opera.THRESHOLD,
                "times": opera.TIMES,
            },
            {"num_beams": opera.BEAMS, "early_stopping": False},
            opera.opera,
            second_reading=True,
            alone=True,
        ),
    )
}


def decoding_named(name: str) -> Decoding:
    """The way of decoding of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in DECODINGS:
        raise RequestError(
            expected=f"one of {', '.join(DECODINGS)}",
            got=f"There is no decoding {name!r}",
            remedy="Choose one of these",
        )
    return DECODINGS[name]
