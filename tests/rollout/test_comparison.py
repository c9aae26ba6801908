"""Two policies on the same seeds."""

import json
from dataclasses import astuple

import numpy as np
import pytest
from rollout_reports import rollouts

import positronic
from positronic.errors import PositronicError
from positronic.raw.writer import DatasetWriter
from positronic.rollout.comparison import compare, comparison_dict, sentence
from positronic.rollout.comparison_films import films_of
from positronic.rollout.comparison_page import comparison_html
from positronic.rollout.pairs import (
    MeanDifference,
    Pairs,
    holm,
    mcnemar,
    mean_difference,
    paired_interval,
    seeds_to_decide,
)
from positronic.rollout.report import write_json
from positronic.storage.place import LocalFolder


def evaluated(folder, *outcomes, **values):
    """A folder with the report of an evaluation, whose first seed is 1000."""
    folder.mkdir(parents=True)
    write_json(rollouts(folder, *outcomes, **values), folder / "report.json")
    return folder


def pairs(first, second):
    return Pairs(dict(enumerate(map(bool, first))), dict(enumerate(map(bool, second))))


def test_only_seeds_that_tell_them_apart_count():
    """McNemar's exact p is the binomial's; 0 of 6 against 6 of 6 is 2 / 2^6."""
    apart = pairs([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1, 1, 1, 1])
    assert (apart.first_alone, apart.second_alone, apart.both) == ([], [4, 5, 6, 7, 8, 9], 3)
    assert (apart.difference, apart.p_value) == (0.6, 2 / 2**6)
    assert (mcnemar(0, 0), mcnemar(3, 3), mcnemar(1, 2)) == (1.0, 1.0, 1.0)


def test_a_decision_is_not_turned_around_by_later_seeds(tmp_path):
    """Decided for a after eight seeds of nine, then thirteen for b: the sentence names a, as the interval does."""
    config = {"driver": {"stop_when": "decided"}}
    a, b = ["success"] * 9 + ["timeout"] * 13, ["timeout"] * 9 + ["success"] * 13
    both = [
        evaluated(tmp_path / name, *each, *["success"] * 20, config=config) for name, each in {"a": a, "b": b}.items()
    ]
    comparison = compare([LocalFolder(each) for each in both])
    told, other = comparison_dict(comparison)["against_first"][0], comparison.others[0]
    assert told["decided"]
    assert told["interval_95"][1] < 0 < told["difference"]
    assert sentence(comparison, other).startswith(
        "b 33/42, a 29/42: a is better (95 % interval 11 to 24.1 points, p = 0.02"
    )
    assert sentence(comparison, other).endswith("though later seeds speak for the other")


def test_what_was_once_to_end_when_decided_is_tested_sequentially(tmp_path):
    """Though its last run was not."""
    both = [LocalFolder(evaluated(tmp_path / name, "success")) for name in "ab"]
    assert not compare(both).is_sequential
    (tmp_path / "b" / "evaluation.json").write_text('{"stop_when": "decided"}')
    assert compare(both).is_sequential


def test_an_interval_mirrors_when_the_two_change_places():
    low, high = paired_interval(70, 12, 5, 100)
    assert low < 0.07 < high
    assert paired_interval(70, 5, 12, 100) == pytest.approx((-high, -low))


@pytest.mark.parametrize("both", [0, 50, 100])
def test_policies_that_never_differ_may_differ_elsewhere(both):
    """The interval holds 0 and has a width."""
    low, high = paired_interval(both, 0, 0, 100)
    assert -0.05 < low <= 0 <= high < 0.05
    assert high > low


@pytest.mark.parametrize(("rates", "n"), [((0.95, 0.85), 100), ((0.5, 0.5), 30), ((0.9, 0.7), 60)])
def test_an_interval_holds_the_truth_19_times_of_20(rates, n):
    """Over 4000 pairs of evaluations whose scenes are easy or hard for both."""
    numbers = np.random.default_rng(0)
    ease = numbers.uniform(size=(4000, n))
    own = numbers.uniform(size=(2, 4000, n))
    shared = numbers.uniform(size=(4000, n)) < 0.5
    a, b = (np.where(shared, ease, own[k]) < rates[k] for k in (0, 1))
    held = 0
    for one, two in zip(a, b, strict=True):
        low, high = paired_interval(int((one & two).sum()), int((one & ~two).sum()), int((two & ~one).sum()), n)
        held += low <= rates[0] - rates[1] <= high
    assert 0.93 <= held / 4000 <= 0.99


def test_several_comparisons_find_less_by_chance():
    """Holm: the smallest counts three times, the next twice, and none less than one before."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]


def test_so_many_seeds_as_are_advised_find_the_difference():
    """4 times of 5, for 90 % against 80 % of which nothing is shared."""
    needed = seeds_to_decide(pairs([1] * 9 + [0], [1] * 8 + [0, 1]))
    assert needed is None
    seen = pairs([1] * 90 + [0] * 10, [1] * 72 + [0] * 18 + [1] * 8 + [0] * 2)
    count = seeds_to_decide(seen)
    numbers = np.random.default_rng(0)
    drawn = numbers.choice(4, size=(2000, count), p=[0.72, 0.18, 0.08, 0.02])
    found = [mcnemar(int((each == 1).sum()), int((each == 2).sum())) < 0.05 for each in drawn]
    assert 0.74 < np.mean(found) < 0.86
    assert seeds_to_decide(seen, comparisons=3) > count


def test_the_better_one_is_said_with_how_sure_that_is(tmp_path):
    better = evaluated(tmp_path / "b", *["success"] * 20)
    worse = evaluated(tmp_path / "a", *["success"] * 10, *["timeout"] * 10)
    comparison = compare([LocalFolder(worse), LocalFolder(better)])
    said = sentence(comparison, comparison.others[0])
    assert said.startswith("b 20/20, a 10/20: b is better by 50 points (95 % interval 2")
    assert comparison.differing == list(range(1010, 1020))
    other_way = compare([LocalFolder(better), LocalFolder(worse)])
    assert sentence(other_way, other_way.others[0]).startswith("a 10/20, b 20/20: b is better by 50 points (95 % int")


def test_what_is_not_shown_is_said_so(tmp_path):
    """One seed of three proves nothing; an aborted episode does not count."""
    one = evaluated(tmp_path / "one", "success", "success", "timeout", "success")
    two = evaluated(tmp_path / "two", "success", "timeout", "timeout", "aborted")
    comparison = compare([LocalFolder(one), LocalFolder(two)])
    assert (len(comparison.seeds), comparison.left_out) == (3, 1)
    assert comparison.success_sec(comparison.first) == {"p50": 1.5, "p90": 1.5, "p99": 1.5, "max": 1.5}
    none = evaluated(tmp_path / "none", "aborted", "success")
    assert compare([LocalFolder(none), LocalFolder(two)]).left_out == 3
    assert "no difference is shown (-33.3 points" in sentence(comparison, comparison.others[0])


def test_the_stage_writes_page_picture_and_numbers(tmp_path, capsys):
    """From three evaluations whose folders have the same last name; the same command may be given again."""
    outcomes = (["success"] * 8, ["timeout"] * 8, ["success", "timeout"] * 4)
    folders = [evaluated(tmp_path / name / "act", *each) for name, each in zip("abc", outcomes, strict=True)]
    typed = ["stage=compare", f"rollouts=[{','.join(map(str, folders))}]", f"paths.root={tmp_path}"]
    for _ in range(2):
        result = positronic.run(positronic.compose(typed))
    assert result.path == f"{tmp_path}/comparisons/a_act_and_b_act_and_c_act"
    shown = capsys.readouterr().out
    assert "a/act is better by 100 points" in shown
    facts = json.loads((tmp_path / "comparisons/a_act_and_b_act_and_c_act/comparison.json").read_text())
    assert [each["decided"] for each in facts["against_first"]] == [True, False]
    assert facts["against_first"][0]["only_first"] == list(range(1000, 1008))
    page = (tmp_path / "comparisons/a_act_and_b_act_and_c_act/comparison.html").read_text()
    assert "../../a/act/000000000000/000000000000" in page
    assert "data:image/png;base64," in page


def recorded(folder, *ids):
    """Recordings of these episodes, of one small camera."""
    for index in ids:
        with DatasetWriter(folder).new_episode(index) as episode:
            for tick in range(8):
                episode.append("image.wrist", np.full((16, 16, 3), 30 * tick, np.uint8), tick * 10**8)


def test_seeds_that_went_differently_are_filmed_from_their_recordings(tmp_path):
    """Side by side, as many as are asked for, without a robot; what is filmed already or is not there is not."""
    one = evaluated(tmp_path / "one", "success", "timeout", "timeout", videos={0: "own.mp4"})
    two = evaluated(tmp_path / "two", "timeout", "success", "success")
    (one / "own.mp4").write_bytes(b"own")
    recorded(one, 0, 1)
    recorded(two, 0, 1)
    comparison = compare([LocalFolder(one), LocalFolder(two)])
    out = tmp_path / "out"
    assert films_of(comparison, out, 0) == {}
    films = films_of(comparison, out, 3)
    made = {(name, seed): out / "videos" / f"{name}_seed{seed}.mp4" for name, seed in [("two", 1000), ("one", 1001)]}
    made["two", 1001] = out / "videos" / "two_seed1001.mp4"
    assert films == made | {("one", 1000): one / "own.mp4"}
    assert all(path.stat().st_size > 0 for path in films.values())
    page = comparison_html(comparison, b"", out, films)
    assert page.count("<video") == 4
    assert "two, seed 1001" in page


def test_how_much_sooner_is_said_with_an_interval(tmp_path):
    """Over the seeds at which both succeeded; of few of them nothing is said."""
    assert mean_difference([0.5] * 10) == MeanDifference(0.5, 0.5, 0.5, 10)
    numbers = np.random.default_rng(1).normal(0.4, 1.0, (300, 40))
    held = [low <= 0.4 <= high for _, low, high, _ in map(astuple, map(mean_difference, numbers))]
    assert 0.9 < np.mean(held) < 0.98
    pair = [evaluated(tmp_path / name, *["success"] * count) for name, count in (("a", 9), ("b", 8), ("c", 7))]
    comparison = compare([LocalFolder(each) for each in pair[:2]])
    assert comparison.later(comparison.others[0]) == MeanDifference(0.0, 0.0, 0.0, 8)
    assert comparison_dict(comparison)["against_first"][0]["success_sec_difference"]["count"] == 8
    few = compare([LocalFolder(each) for each in pair])
    assert few.later(few.others[1]) is None


def test_how_much_smoother_is_said_where_both_succeed(tmp_path):
    """With an interval; a report that does not say it, of an older run, is compared without."""
    one = evaluated(tmp_path / "one", *["success"] * 9)
    two, old = tmp_path / "two", tmp_path / "old"
    report = json.loads((one / "report.json").read_text())
    for episode in report["episodes"]:
        episode["smoothness"] += 0.5
    report["episodes"][0] |= {"success": False, "outcome": "timeout"}
    two.mkdir()
    (two / "report.json").write_text(json.dumps(report))
    for episode in report["episodes"]:
        del episode["smoothness"]
    old.mkdir()
    (old / "report.json").write_text(json.dumps(report))
    comparison = compare([LocalFolder(each) for each in (one, two, old)])
    assert comparison.smoother(comparison.others[0]) == MeanDifference(0.5, 0.5, 0.5, 8)
    assert [comparison.smoothness(each) for each in comparison.evaluations] == [-13.0, -12.5, None]
    assert comparison.smoother(comparison.others[1]) is None
    facts = comparison_dict(comparison)
    assert facts["against_first"][0]["smoothness_difference"]["mean"] == 0.5
    assert facts["evaluations"][2]["smoothness"] is None
    page = comparison_html(comparison, b"", tmp_path, {})
    assert "two: smoothness beside that of one, 95 % interval +0.50 to +0.50, 8 seeds" in page


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task": "Unstack."}, r"(?s)task: .*Stack\..*Unstack\."),
        ({"config": {"driver": {"simulation_time": 5.0}}}, r"(?s)driver\.simulation_time: .*5\.0"),
        ({"config": {"driver": {"latency_sec": 0.3}}}, r"(?s)driver\.latency_sec: .*0\.3"),
        ({"config": {"driver": {"max_speed": 0.2}}}, r"(?s)driver\.max_speed: .*0\.2"),
        ({"config": {"hardware": {"scoring": {"xy": 0.1}}}}, r"(?s)hardware\.scoring\.xy"),
    ],
)
def test_other_conditions_are_refused_with_both_sides(tmp_path, values, said):
    """A success there means something else."""
    one, two = evaluated(tmp_path / "one", "success"), evaluated(tmp_path / "two", "success", **values)
    with pytest.raises(PositronicError, match=said):
        compare([LocalFolder(one), LocalFolder(two)])


def test_what_cannot_be_compared_is_told(tmp_path):
    """No report, a damaged one, the same folder twice, no common seed."""
    one = evaluated(tmp_path / "one", "success")
    with pytest.raises(PositronicError, match=r"nothing holds no report\.json.*stage=infer"):
        compare([LocalFolder(one), LocalFolder(tmp_path / "nothing")])
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for text in ("{", "[]", '{"format": 1}'):
        (damaged / "report.json").write_text(text)
        with pytest.raises(PositronicError, match="damaged"):
            compare([LocalFolder(one), LocalFolder(damaged)])
    with pytest.raises(PositronicError, match="are the same"):
        compare([LocalFolder(one), LocalFolder(one)])
    report = json.loads((one / "report.json").read_text())
    report["episodes"][0]["seed"] = 7
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.json").write_text(json.dumps(report))
    with pytest.raises(PositronicError, match="No seed was played by all: .*1000 to 1000; .*7 to 7"):
        compare([LocalFolder(one), LocalFolder(other)])


def test_one_folder_is_nothing_to_compare():
    with pytest.raises(PositronicError, match="2 or more folders"):
        positronic.compose(["stage=compare", "rollouts=[data/rollouts/a]"])
