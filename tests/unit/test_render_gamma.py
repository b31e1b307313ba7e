"""Pictures of gamma: right, comparable, harmless, and the same every time."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console

from ledger_cli.core.gamma_view import GammaFrame, GammaRow, GammaView, WeightScale
from ledger_cli.core.geometry import Bounds, cell_bounds
from ledger_cli.errors import LedgerError
from ledger_cli.render.gamma import chart, frame_html, svg_text, terminal_map, to_html, write_png, write_svg
from ledger_cli.render.gamma.page import payload
from ledger_cli.render.gamma.spec import canvas_of
from ledger_cli.render.gamma.style import BAR, DECOUPLED, NO_REGIONS, VIRIDIS, ramp, rgb

COMMIT = "0198f0aa-1111-8222-8333-444455556666"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def row(region: str, weight: float, bounds: Bounds | None = None, mean: float = 0.25) -> GammaRow:
    return GammaRow(region, weight, mean, 0.01, mean, 0.02, 12, 3, COMMIT, 100, bounds)


def cell(region: str, weight: float, mean: float = 0.25) -> GammaRow:
    return row(region, weight, cell_bounds({"kind": "grid", "cell": 10}, region), mean)


def frame(*rows: GammaRow, tick: int = 100, label: str = COMMIT) -> GammaFrame:
    return GammaFrame(label, tick, rows)


MAP = frame(cell("-1:0", 1.0), cell("0:0", 2.5), cell("1:0", 10.0), cell("0:1", 0.0, mean=0.0))
FIELD = frame(row("b", 2.0), row("a", 5.0), row("none", 0.0, mean=0.0))
EMPTY = frame()
EXTREMES = {
    "huge": frame(cell("0:0", 1e308), cell("1:0", 1e300)),
    "tiny": frame(cell("0:0", 5e-324), cell("1:0", 0.0)),
    "zero": frame(cell("0:0", 0.0), cell("1:0", 0.0)),
    "equal": frame(cell("0:0", 7.0), cell("1:0", 7.0)),
    "single": frame(cell("-5:3", 7.0)),
    "far": frame(cell("0:0", 1.0), cell("900000000:-4", 2.0)),
    "field": FIELD,
    "zero field": frame(row("a", 0.0), row("b", 0.0)),
    "empty": EMPTY,
}


def console(width: int = 100, colour: str | None = "truecolor", encoding: str = "utf-8") -> Console:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=out, width=width, color_system=colour, force_terminal=colour is not None)  # type: ignore[arg-type]


def lines(picture: GammaFrame, width: int = 100, height: int = 30, **options: Any) -> list[str]:
    screen = console(**options)
    return ["".join(part.text for part in line) for line in screen.render_lines(terminal_map(picture, width, height))]


def colours(picture: GammaFrame, width: int = 100, height: int = 30) -> set[tuple[int, int, int]]:
    """The colours of the map alone: what stands right of the axis."""
    found: set[tuple[int, int, int]] = set()
    for line in console().render_lines(terminal_map(picture, width, height)):
        text = "".join(part.text for part in line)
        if "│" not in text:
            continue
        for part in line:
            for colour in (part.style.color, part.style.bgcolor) if part.style else ():
                if colour is not None and colour.triplet is not None:
                    red, green, blue = colour.triplet
                    found.add((red, green, blue))
    return found


def luminance(colour: str) -> float:
    red, green, blue = rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class TestScale:
    def test_positions_rise_with_the_weight(self) -> None:
        for exponent in (1.0, 0.5):
            scale = WeightScale(10.0, exponent)
            positions = [scale.position(weight) for weight in (0, 1, 2, 5, 10)]
            assert positions == sorted(set(positions))
            assert (positions[0], positions[-1]) == (0.0, 1.0)

    @pytest.mark.parametrize(("maximum", "weight"), [(0.0, 0.0), (0.0, 1.0), (1e308, 1e308), (5e-324, 5e-324)])
    def test_no_maximum_divides_by_zero(self, maximum: float, weight: float) -> None:
        assert 0.0 <= WeightScale(maximum).position(weight) <= 1.0

    def test_colours_grow_lighter(self) -> None:
        steps = [luminance(ramp(step / 50)) for step in range(51)]
        assert steps == sorted(set(steps))


class TestTerminal:
    def test_each_weight_has_its_colour(self) -> None:
        expected = {rgb(ramp(weight / 10)) for weight in (1.0, 2.5, 10.0)} | {rgb(DECOUPLED)}
        assert colours(MAP) == expected

    def test_a_heading_that_is_too_long_has_two_lines(self) -> None:
        long = replace(MAP, title="gamma of main, half-life 160 ticks")
        told = " ".join(line.strip() for line in lines(long, 60, colour=None)[:2])
        assert told == "gamma of main, half-life 160 ticks tick 100 · 0198f0aa · 4 regions · total weight 13.5"

    def test_the_highest_y_is_on_top(self) -> None:
        body = [line.split("│")[1] for line in lines(MAP, colour=None) if "│" in line]
        assert "·" in body[0]
        assert "█" not in body[0]
        assert "█" in body[-1]

    def test_a_scale_from_outside_makes_frames_comparable(self) -> None:
        screen = console()
        screen.print(terminal_map(frame(cell("0:0", 5.0)), 60, 20, maximum=10.0))
        expected = Color.parse(ramp(0.5)).get_ansi_codes()
        assert ";".join(expected) in _written(screen)

    def test_shades_without_colour(self) -> None:
        text = "\n".join(lines(MAP, colour=None))
        assert "\x1b" not in text
        for shade in "░▒█·":
            assert shade in text

    def test_plain_characters_where_the_terminal_has_no_others(self) -> None:
        for picture in (MAP, FIELD, EMPTY):
            "\n".join(lines(picture, colour=None, encoding="ascii")).encode("ascii")

    def test_cells_are_square(self) -> None:
        body = [line.split("│")[1].rstrip() for line in lines(frame(cell("0:0", 1.0)), colour=None) if "│" in line]
        assert {len(line) for line in body} == {2 * len(body)}

    @pytest.mark.parametrize("colour", ["truecolor", None])
    def test_more_cells_than_characters(self, colour: str | None) -> None:
        rows = [cell(f"{x}:{y}", 1.0) for x in range(150) for y in range(90)]
        rows[7777] = cell("86:37", 1000.0)
        drawn = lines(frame(*rows), width=60, height=24, colour=colour)
        assert len(drawn) <= 24
        assert max(map(cell_len, (line.rstrip() for line in drawn))) <= 60
        assert any("the highest weight of" in line for line in drawn)
        if colour:
            assert rgb(ramp(1.0)) in colours(frame(*rows), width=60, height=24)

    def test_legend_and_hottest(self) -> None:
        text = "\n".join(lines(MAP))
        assert "min 0 · max 10" in text
        assert "decoupled: 1" in text
        assert re.search(r"hottest 1:0 10 · 0:0 2\.5 · -1:0 1\b", text)

    def test_regions_off_the_map_are_named(self) -> None:
        text = "\n".join(lines(frame(*MAP.rows, row("outside", 3.0))))
        assert "not on the map: outside 3" in text

    def test_fields_are_bars_by_weight(self) -> None:
        drawn = [line.rstrip() for line in lines(FIELD)[1:]]
        assert [line.split()[0] for line in drawn] == ["a", "b", "none"]
        assert drawn[0].count("█") > drawn[1].count("█") > drawn[2].count("█") == 0

    def test_more_bars_than_lines(self) -> None:
        many = frame(*(row(f"E{index}", float(index)) for index in range(50)))
        drawn = lines(many, height=10)
        assert len(drawn) == 10
        assert "41 more" not in drawn[-1]
        assert "42 more" in drawn[-1]

    def test_empty_is_said_in_words(self) -> None:
        assert NO_REGIONS in "\n".join(lines(EMPTY))

    @pytest.mark.parametrize("name", EXTREMES)
    @pytest.mark.parametrize("size", [(100, 30), (20, 5), (1, 1)])
    def test_extremes(self, name: str, size: tuple[int, int]) -> None:
        assert lines(EXTREMES[name], *size)
        assert lines(EXTREMES[name], *size, colour=None)

    def test_names_cannot_steer_the_terminal(self) -> None:
        text = "\n".join(lines(frame(row("\x1b[2Jgone\r\n", 1.0)), colour=None))
        assert "\x1b" not in text
        assert "\r" not in text


def _written(screen: Console) -> str:
    screen.file.flush()
    return screen.file.buffer.getvalue().decode()  # type: ignore[attr-defined, no-any-return]


class TestNotebook:
    def test_map_and_table(self) -> None:
        text = frame_html(MAP)
        assert text.count("<rect") == 1 + len(MAP.rows)
        assert ramp(0.25) in text
        assert ramp(1.0) in text
        assert DECOUPLED in text
        assert text.count("<tr>") == 1 + len(MAP.rows)

    def test_y_points_up(self) -> None:
        found = re.findall(r'y="([0-9.]+)"[^>]*><title>([^ ]+): ', frame_html(MAP))
        top = {region: float(y) for y, region in found}
        assert top["0:1"] < top["1:0"] == top["-1:0"]

    @pytest.mark.parametrize("name", EXTREMES)
    def test_extremes(self, name: str) -> None:
        text = frame_html(EXTREMES[name])
        assert "nan" not in text
        assert "inf" not in text

    def test_escaped(self) -> None:
        text = frame_html(frame(row(EVIL, 1.0, (0, 0, 1, 1)), label=EVIL))
        assert "<script" not in text
        assert "<img" not in text

    def test_empty_is_said_in_words(self) -> None:
        assert NO_REGIONS in frame_html(EMPTY)


class TestPictures:
    @pytest.fixture(autouse=True)
    def _needs_the_extra(self) -> None:
        pytest.importorskip("altair")
        pytest.importorskip("vl_convert")

    @pytest.mark.parametrize("name", EXTREMES)
    def test_png_has_the_size_of_the_svg(self, name: str, tmp_path: Path) -> None:
        write_png(tmp_path / "gamma.png", EXTREMES[name], pixel_ratio=2)
        write_svg(tmp_path / "gamma.svg", EXTREMES[name])
        png = (tmp_path / "gamma.png").read_bytes()
        svg = (tmp_path / "gamma.svg").read_text(encoding="utf-8")
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert b"IEND" in png[-12:]
        size = re.search(r'<svg[^>]* width="([0-9.]+)" height="([0-9.]+)"', svg)
        assert size is not None
        expected = [2 * float(side) for side in size.groups()]
        assert struct.unpack(">II", png[16:24]) == pytest.approx(expected, abs=2)
        assert "NaN" not in svg
        assert "Infinity" not in svg

    def test_each_weight_has_its_colour(self) -> None:
        drawn = {
            "#" + "".join(f"{int(part):02x}" for part in found)
            for found in re.findall(r'fill="rgb\((\d+), ?(\d+), ?(\d+)\)"', svg_text(MAP))
        } | set(re.findall(r'fill="(#[0-9a-f]{6})"', svg_text(MAP)))
        assert {ramp(0.1), ramp(0.25), ramp(1.0), DECOUPLED} <= drawn
        assert BAR in svg_text(FIELD)

    def test_same_frame_same_bytes(self, tmp_path: Path) -> None:
        pictures = []
        for name in ("first", "second"):
            write_png(tmp_path / name, MAP)
            pictures.append((svg_text(MAP), (tmp_path / name).read_bytes(), to_html(GammaView("t", (MAP,)))))
        assert pictures[0] == pictures[1]

    def test_equal_aspect_and_y_upward(self) -> None:
        spec = chart(MAP).to_dict()
        layer = spec["layer"][0]
        x, y = (layer["encoding"][axis]["scale"]["domain"] for axis in "xy")
        assert spec["width"] / (x[1] - x[0]) == pytest.approx(spec["height"] / (y[1] - y[0]), rel=0.02)
        assert y[0] < y[1]
        assert not layer["encoding"]["y"]["scale"].get("reverse")

    def test_several_frames_have_a_slider_and_one_scale(self) -> None:
        later = frame(cell("0:0", 40.0), tick=200)
        spec = chart(GammaView("two", (MAP, later))).to_dict()
        assert any(param.get("bind", {}).get("input") == "range" for param in spec["params"])
        assert '"domain": [0, 40.0]' in json.dumps(spec)

    def test_large_and_small_weights_are_shown_without_an_exponent(self) -> None:
        for top, largest in ((4.1e7, "40 000 000"), (2.5e-7, "0.00000025")):
            texts = re.findall(r">([^<>]+)</text>", svg_text(frame(cell("0:0", top), cell("1:0", top / 2))))
            assert largest in [text.replace("\xa0", " ") for text in texts]
            assert not [text for text in texts if re.fullmatch(r"[\d.]+e[+-]?\d+", text)]

    def test_empty_is_said_in_words(self) -> None:
        assert NO_REGIONS in svg_text(EMPTY)

    def test_svg_is_escaped(self) -> None:
        text = svg_text(GammaView(EVIL, (frame(row(EVIL, 1.0), label=EVIL),)))
        assert "<script" not in text
        assert "<img" not in text


class TestPage:
    @pytest.fixture(autouse=True)
    def _needs_the_extra(self) -> None:
        pytest.importorskip("altair")
        pytest.importorskip("vl_convert")

    def test_nothing_is_fetched(self) -> None:
        text = to_html(GammaView("page", (MAP,)))
        assert not re.search(r"""(src|href|action)\s*=\s*["'`]?\s*(https?:)?//""", text)
        assert not re.search(r"""(url\(|@import|\bimport\()\s*["'`]?\s*(https?:)?//""", text)
        assert "<link" not in text
        assert not re.search(r"<script[^>]+src", text)
        assert "default-src 'none'" in text
        assert "connect-src" not in text

    def test_every_frame_is_in_it(self) -> None:
        frames = (
            frame(cell("0:0", 1.0), cell("1:0", 2.0), tick=1, label="one"),
            frame(cell("0:0", 1.0), cell("2:0", 3.0), row("outside", 4.0), tick=2, label="two"),
            frame(tick=3, label="three"),
            frame(cell("1:0", 5.0), cell("0:0", 0.5), tick=4, label="four"),
        )
        data = _payload(to_html(GammaView("page", frames)))
        assert [(one["tick"], one["label"]) for one in data["frames"]] == [
            (1, "one"), (2, "two"), (3, "three"), (4, "four"),
        ]  # fmt: skip
        for shown, wanted in zip(_decoded(data), frames, strict=True):
            assert shown == {
                one.region: {
                    "weight": one.weight, "mean": 0.25, "variance": 0.01, "pooledMean": 0.25,
                    "pooledVariance": 0.02, "count": 12, "commits": 3, "lastCommit": COMMIT,
                    "lastEpochEnd": 100, "decoupled": 0,
                }
                for one in wanted.rows
            }  # fmt: skip

    def test_the_scale_is_that_of_all_frames(self) -> None:
        text = to_html(GammaView("page", (frame(cell("0:0", 1.0)), frame(cell("9:9", 50.0)))))
        assert '"domain":[0,50.0]' in text

    @pytest.mark.parametrize("shown", [MAP, FIELD], ids=["map", "bars"])
    def test_every_colour_of_the_picture_is_one_of_the_page(self, shown: GammaFrame) -> None:
        """So that it is dark where the page is: only what stands for values, and what is decoupled, stays as it is."""
        text = to_html(GammaView("page", (shown,)))
        (spec,) = re.findall(r'<script type="application/json" id="spec">(.*?)</script>', text, re.DOTALL)
        themed = dict(re.findall(r'"(#[0-9a-f]{6})": "(--[a-z]+)"', text))
        used = set(re.findall(r'"(#[0-9a-f]{6})"', spec))
        assert used - set(themed) <= {*VIRIDIS, DECOUPLED, BAR}
        dark = text[text.index("@media (prefers-color-scheme: dark)") :]
        assert all(f"{name}: #" in dark[: dark.index("body {")] for name in themed.values())

    @pytest.mark.parametrize("place", [None, (0.0, 0.0, 1.0, 1.0)])
    def test_names_do_no_harm(self, place: Bounds | None) -> None:
        view = GammaView(EVIL, (GammaFrame(EVIL, 1, (row(EVIL, 1.0, place),)),))
        harmless = GammaView("x", (GammaFrame("x", 1, (row("x", 1.0, place),)),))
        text = to_html(view)
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert text.count("</script") == to_html(harmless).count("</script") == 4
        assert _payload(text)["regions"] == [EVIL]

    def test_two_hundred_frames_of_five_hundred_regions_are_compact(self) -> None:
        frames = tuple(
            frame(
                *(cell(f"{x}:{y}", (x + y + 1) * 0.987**tick) for x in range(25) for y in range(20)),
                tick=tick,
            )
            for tick in range(200)
        )
        view = GammaView("decayed", frames)
        assert len(json.dumps(payload(view, canvas_of(view, 1.0)), separators=(",", ":"))) < 2_000_000

    @pytest.mark.parametrize("name", EXTREMES)
    def test_extremes(self, name: str) -> None:
        assert _payload(to_html(GammaView(name, (EXTREMES[name],))))["frames"]

    def test_no_frames_is_said_in_words(self) -> None:
        assert NO_REGIONS in to_html(GammaView("nothing", ()))


def _payload(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def _decoded(data: Any) -> list[dict[str, dict[str, Any]]]:
    """What the script of the page does: apply the changes in order."""
    state: dict[int, dict[str, Any]] = {}
    frames = []
    for one in data["frames"]:
        for index in one["gone"]:
            del state[index]
        for name, (listed, values) in zip(data["columns"], one["set"], strict=True):
            indexes = one["set"][listed][0] if isinstance(listed, int) else listed
            for index, value in zip(indexes, values, strict=True):
                state.setdefault(index, {})[name] = data["commits"][value] if name == "lastCommit" else value
        frames.append({data["regions"][index]: dict(values) for index, values in state.items()})
    return frames


@pytest.mark.parametrize(("module", "install"), [("altair", "altair"), ("vl_convert", "vl-convert")])
def test_a_missing_extra_says_what_to_install(
    module: str, install: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LedgerError, match=re.escape("pip install 'ledger-cli[render]'")) as caught:
        write_png(tmp_path / "gamma.png", MAP)
    assert install in str(caught.value)


def test_importing_the_renderer_imports_no_extra() -> None:
    code = "import sys, ledger_cli.render.gamma; print({'altair', 'vl_convert'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
