"""What is on show: which rows and maps are chosen on each side, the common scale, and the difference."""

from __future__ import annotations

import numpy as np
import pytest

from a3tune.figures.colour_tables import COLOUR_MAPS
from a3tune.inspection.report import MapStyle

PATCHES = 4
RUN = """async ([changes, call]) => {
    const { ViewState } = await import("/inspect/viewer/state.js");
    const state = Object.assign(new ViewState(), changes);
    for (const view of state.views) for (const maps of [view.maps, view.headMeans])
        for (const name of Object.keys(maps)) maps[name] = maps[name] && Float32Array.from(maps[name]);
    if (state.chosen.of !== null) state.chosen.of = state.views[state.chosen.of];
    return new Function("state", "return " + call)(state);
}"""


def view(words, seed):
    """A view of 1 layer and 2 heads that answers these words to the question "where"."""
    generator = np.random.default_rng(seed)
    tokens = [{"row": 0, "role": "question", "text": "where", "special": False}]
    tokens += [{"row": row + 1, "role": "answer", "text": word, "special": False} for row, word in enumerate(words)]
    maps = {name: generator.random((len(tokens), PATCHES)).astype(np.float32) for name in ("critical", "mean")}
    means = generator.random((2, PATCHES)).astype(np.float32)
    flat = {name: values.ravel().tolist() for name, values in maps.items()}
    one = {"tokens": tokens, "layers": 1, "heads": 2, "patches": PATCHES, "maps": flat, "sinks": [[1, [0, 2]]]}
    return {**one, "headMeans": {"answer": means.ravel().tolist(), "question": None}}, maps, means


@pytest.fixture(scope="module")
def sides():
    return view(["left", "lung"], 1), view(["the", "left"], 2)


@pytest.fixture(scope="module")
def on_show(module_page, sides):
    """(call, **changes) -> what the state answers with both sides."""

    def run(call, pair=(0, 1, "side"), chosen=None, **changes):
        plain = {"heads": "critical", "layer": 0, "head": 1, "words": "answer", "rows": [], "of": None}
        a, b, mode = pair
        given = {
            "pair": {"a": a, "b": b, "mode": mode, "front": "a", "wipe": 0.5},
            "chosen": {**plain, **(chosen or {})},
        }
        return module_page.evaluate(RUN, [{"views": [one for one, *_ in sides], **given, **changes}, call])

    return run


def test_the_mean_of_the_answer_is_the_mean_over_its_rows(on_show, sides):
    for name, (_, maps, _) in zip(("sideA", "sideB"), sides, strict=True):
        shown = on_show(
            f"(({{ values, ...more }}) => ({{ values: [...values], ...more, map: 0 }}))(state.mapOf(state.{name}))"
        )
        expected = maps["critical"][1:].mean(axis=0)
        assert shown["values"] == pytest.approx(expected)
        assert shown["share"] == pytest.approx(expected.sum())
        assert shown["rows"] == [1, 2]


def test_a_chosen_word_is_found_on_the_other_side(on_show):
    chosen = {"words": "own", "rows": [1], "of": 0}
    assert on_show("state.both.map((one) => state.rowsOf(one))", chosen=chosen) == [[1], [2]]
    alone = {"words": "own", "rows": [2], "of": 0}
    assert on_show("state.mapOf(state.sideB).missing", chosen=alone) == "has no such word"


def test_one_heads_mean_is_here_and_its_single_words_are_asked_for(on_show, sides):
    head = {"heads": "head"}
    assert on_show("[...state.mapOf(state.sideA).values]", chosen=head) == pytest.approx(sides[0][2][1])
    word = {**head, "words": "own", "rows": [1], "of": 0}
    assert on_show("state.mapOf(state.sideA)", chosen=word) == {"missing": "loading", "waits": True}
    told = on_show("state.mapOf(state.sideA)", chosen=word, trouble="It is gone.")
    assert told == {"missing": "It is gone.", "waits": False}


def test_one_heads_map_up_to_an_earlier_word_stays_until_it_is_fetched_anew(module_page, sides):
    (side, maps, _), chosen = (
        sides[0],
        {"heads": "head", "layer": 0, "head": 1, "words": "answer", "rows": [], "of": None},
    )
    writing = {**side, "headMeans": {}, "earlier": {"0.1": maps["mean"][:2].ravel().tolist()}}
    call = "(({ values, waits }) => ({ values: [...values], waits }))(state.mapOf(state.views[0]))"
    shown = module_page.evaluate(RUN, [{"views": [writing], "chosen": chosen}, call])
    assert shown == {"values": pytest.approx(maps["mean"][1].tolist()), "waits": True}
    own = {**chosen, "words": "own", "rows": [2]}
    assert (
        module_page.evaluate(RUN, [{"views": [writing], "chosen": own}, "state.mapOf(state.views[0]).missing"])
        == "loading"
    )


def multiples(values):
    """Maps over patches as multiples of what an even map would give each."""
    return values / values.mean(axis=-1, keepdims=True)


def test_both_sides_have_one_scale_or_their_own_and_sinks_do_not_set_it(on_show, sides):
    tops = [multiples(maps["critical"][1:].mean(axis=0)).max() for _, maps, _ in sides]
    each = [on_show(f"state.topOfScale(state.{name})") for name in ("sideA", "sideB")]
    assert each == pytest.approx([max(tops)] * 2)
    own = {"display": {"scale": "own", "each": True}}
    assert [on_show(f"state.topOfScale(state.{name})", **own) for name in ("sideA", "sideB")] == pytest.approx(tops)
    assert on_show("state.topOfScale(state.sideA)", pair=(0, -1, "one")) == pytest.approx(tops[0])
    shared = {"display": {"scale": "shared", "sinks": True}}
    rest = [multiples(maps["critical"])[:, [0, 2, 3]].max() for _, maps, _ in sides]
    assert on_show("state.topOfScale(state.sideA)", **shared) == pytest.approx(max(rest))
    drawn = on_show("[...state.multiplesOf(state.sideB).values]")
    assert drawn == pytest.approx(multiples(sides[1][1]["critical"][1:].mean(axis=0)))


def test_a_difference_is_b_less_a(on_show, sides):
    before, after = (maps["critical"][1:].mean(axis=0) for _, maps, _ in sides)
    assert on_show("[...state.difference().values]") == pytest.approx(after - before)


def test_one_side_alone_is_never_compared(on_show):
    assert on_show("[state.mode, state.comparing]", pair=(0, -1, "side")) == ["one", False]
    assert on_show("[state.mode, state.comparing]") == ["side", True]


def test_a_map_begins_in_the_style_of_the_command(module_page):
    """Opacity, dimming and the rest are those of a file that nobody chose anything for."""
    display = module_page.evaluate("""async () => {
        const { ViewState } = await import("/inspect/viewer/state.js");
        return new ViewState().display;
    }""")
    style = MapStyle()
    assert [display[name] for name in ("opacity", "smooth", "dim", "each")] == [
        style.opacity, style.smooth, style.dim, style.each,
    ]  # fmt: skip
    # The page takes the first colour map, which its list names.
    assert (display["colours"], style.colours) == ("", COLOUR_MAPS[0])
