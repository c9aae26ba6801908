"""Several policies on the same seeds in one command, and a comparison that ends when it is decided."""

import json

import pytest

import positronic
from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.rollout.campaign import Campaign
from positronic.rollout.candidates import candidate
from positronic.rollout.comparison import compare, sentence
from positronic.rollout.config import DECIDED, DriverConfig, RemotePolicyConfig
from positronic.rollout.continuation import read_result
from positronic.rollout.verdict import Verdict
from positronic.stages.infer import play_all
from positronic.storage.place import LocalFolder

TWO = "stage=infer policies=[short,quickstart]"


def campaigns(root, *names, **driver):
    driver = DriverConfig("timed", **{"save_videos": 0, "simulation_time": 1.0, **driver})
    for name in names:
        (root / name).mkdir(exist_ok=True)
    return [Campaign(HardwareConfig("point"), RemotePolicyConfig("remote"), driver, 5, root / name) for name in names]


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture
def lazy(approach):
    """A policy that stays where it is."""

    class Lazy(approach):
        def infer(self, observation):
            return super().infer(observation)[:0]

    return Lazy


def test_each_seed_is_played_by_all_before_the_next_one(point_robot, approach, tmp_path):
    """So that a run that is interrupted is paired; who does not play rests."""
    order = []

    class Noting(approach):
        def reset(self):
            super().reset()
            order.append(self.steps)

    policies = [Noting(4), Noting(5)]
    play_all(campaigns(tmp_path, "a", "b", num_episodes=3), point_robot, policies)
    assert order == [4, 5] * 3
    assert [policy.rests for policy in policies] == [3, 3]
    assert [one["seed"] for one in report(tmp_path / "b")["episodes"]] == [5, 6, 7]


def test_it_ends_when_it_is_decided(point_robot, approach, lazy, tmp_path, capsys):
    """After eight seeds that only one succeeded at, and both reports say so; what is compared allows for it."""
    both = campaigns(tmp_path, "lazy", "quick", num_episodes=30, stop_when=DECIDED)
    reports = play_all(both, point_robot, [lazy(), approach()], Verdict([[], []]))
    assert [len(each.results) for each in reports] == [8, 8]
    facts = report(tmp_path / "quick")
    assert (facts["n"], facts["planned"]) == (8, 30)
    assert "decided after 8 of 30 seeds, by a sequential test" in facts["stopped"]
    assert "open the report" in capsys.readouterr().out
    compared = compare([LocalFolder(tmp_path / name) for name in ("lazy", "quick")])
    said = sentence(compared, compared.others[0])
    assert "quick is better by 100 points (95 % interval" in said
    assert "sequential)" in said
    low, high = compared.others[0].pairs.interval
    assert 0 < low < 0.5 < high == 1


def test_what_was_decided_before_is_not_played_again(tmp_path, point_robot, approach, lazy):
    """Episodes of an earlier run are looked at first; equal policies play to the end."""
    both = campaigns(tmp_path, "lazy", "quick", num_episodes=30, stop_when=DECIDED)
    play_all(both, point_robot, [lazy(), approach()], Verdict([[], []]))
    done = [[read_result(path) for path in sorted(one.root.glob("0*/0*"))] for one in both]
    assert Verdict(done).seeds == 8
    same = campaigns(tmp_path, "one", "two", num_episodes=9, stop_when=DECIDED)
    verdict = Verdict([[], []])
    play_all(same, point_robot, [approach(), approach()], verdict)
    assert (verdict.seeds, report(tmp_path / "two")["n"], report(tmp_path / "two")["stopped"]) == (None, 9, None)


def test_seeds_are_looked_at_in_their_order(tmp_path, point_robot, approach, lazy):
    """What ends sooner is not counted sooner."""
    both = campaigns(tmp_path, "lazy", "quick", num_episodes=9)
    play_all(both, point_robot, [lazy(), approach()])
    done = [[read_result(path) for path in sorted(one.root.glob("0*/0*"))] for one in both]
    verdict = Verdict([each[1:] for each in done])
    assert verdict.seeds is None
    verdict.note(0, done[0][0])
    assert verdict.seeds is None
    verdict.note(1, done[1][0])
    assert verdict.seeds == 8


def test_one_command_evaluates_and_compares(approach, serving, tmp_path, capsys):
    """Two servers, two robots: a folder for each, and the page beside them; more seeds are added to both."""
    servers = [serving(approach(steps)) for steps in (4, 5)]
    texts = [f"127.0.0.1:{server.port}" for server in servers]
    typed = ["stage=infer", f"policies=[{','.join(texts)}]", "hardware.image_size=[32,48]", "driver.num_robots=2"]
    typed += ["driver.simulation_time=0.3", "driver.save_videos=0", "driver.on_unsafe_chunk=clamp"]
    typed += [f"output_dir={tmp_path / 'out'}"]
    result = positronic.run(positronic.compose([*typed, "driver.num_episodes=1"]))
    assert "no difference is shown" in capsys.readouterr().out
    result = positronic.run(positronic.compose([*typed, "driver.num_episodes=2", "resume=true"]))
    assert result.path == str(tmp_path / "out")
    assert list(result.comparison.seeds) == [0, 1]
    assert (tmp_path / "out" / "comparison.html").exists()
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == sorted(text.replace(":", "_") for text in texts)
    assert report(tmp_path / "out" / folders[0])["earlier"] == 1


def test_a_candidate_is_a_checkpoint_a_server_or_a_checkpoint_of_a_server():
    """The rest is as typed for all."""
    base = RemotePolicyConfig("remote", host="here", port=1, token="secret")
    seen = [candidate(text).of(base) for text in ("act/010000", "there:8001", "there:8001/act/last")]
    assert [(each.host, each.port, each.checkpoint) for each in seen] == [
        ("here", 1, "act/010000"),
        ("there", 8001, None),
        ("there", 8001, "act/last"),
    ]
    assert {each.token for each in seen} == {"secret"}
    assert candidate("there:8001/act/last").name == "there_8001_act_last"


@pytest.mark.parametrize(
    ("typed", "said"),
    {
        "stage=infer policies=[short]": "2 or more policies",
        "stage=infer policies=[short,short]": "2 or more policies",
        "stage=infer driver.stop_when=decided": "Type policies=[<a>,<b>] too.",
        f"{TWO} policy=scripted": "found policy=scripted. Leave one out.",
        f"{TWO} hardware=replay hardware.path=x": "with hardware=replay there are none",
        f"{TWO} policy.checkpoint=x": "policy.checkpoint does nothing beside policies=[short,quickstart]",
        "stage=infer policies=[a:1,b:2] policy.host=x": "policy.host does nothing beside policies=[a:1,b:2]",
        "stage=infer policies=[a:1,b] policy=local policy.checkpoints_dir=x": "a server is reached with policy=remote",
        "stage=infer policies=[a/1,a_1]": "two of them would have folders of the same name",
        "stage=train policies=[a,b]": "It belongs to stage=infer",
    }.items(),
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(typed, said):
    with pytest.raises(PositronicError) as refusal:
        positronic.compose(typed.split())
    assert said in str(refusal.value)
