"""stage=import: from a folder of other recordings to a raw dataset, by a mapping that somebody has agreed to."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.importing.folder import MAPPING_FILE
from positronic.importing.mapping import read_mapping, write_mapping
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_paths
from positronic.stages.import_ import run

ROOT = Path(__file__).resolve().parents[2]
RESULT = "positronic.utils.pool:WorkerPool._collect"
START = "positronic.utils.pool:_start"


@pytest.fixture
def recorded(tmp_path):
    """A folder of four HDF5 files: a UR5e whose numbers have no names, a gripper from 0 to 255, and a camera."""
    folder = tmp_path / "rec"
    folder.mkdir()
    for number in range(4):
        write(folder / f"take_{number}.h5", number)
    return folder


def write(path, number, length=24):
    steps = np.arange(length)[:, None] / 100
    with h5py.File(path, "w") as file:
        file["joints"] = steps + np.arange(6) / 10
        file["action"] = np.concatenate([steps + np.arange(6) / 10, 255 * np.linspace(0, 1, length)[:, None]], axis=1)
        file["gripper"] = np.linspace(0, 255, length)
        file["wrist"] = np.full((length, 32, 48, 3), 20 * number, np.uint8)
        file["temperature"] = np.zeros(length)


def typed(folder, *more):
    values = [f"path={folder}", f"output_dir={folder.parent / 'raw'}", "embodiment=ur5e", "num_workers=2"]
    return ["stage=import", "source=hdf5", *values, *more]


def config(folder, *more):
    return positronic.compose(typed(folder, *more))


def agreed(folder):
    """A finished mapping in a file."""
    with pytest.raises(PositronicError):
        run(config(folder, "fps=10"))
    file = folder.parent / "raw_mapping.yaml"
    text = file.read_text()
    for name, value in {
        "unit: ???": "unit: rad",
        "open: ???": "open: 0",
        "closed: ???": "closed: 255",
    }.items():
        text = text.replace(name, value)
    for key, dims in {keys.JOINT_POSITION: "0, 1, 2, 3, 4, 5", keys.COMMAND_JOINTS: "0, 1, 2, 3, 4, 5"}.items():
        head, tail = text.split(f"  {key}:", 1)
        text = f"{head}  {key}:" + tail.replace("dims: ???", f"dims: [{dims}]", 1)
    file.write_text(text.replace("dims: ???", "dims: [6]"))
    return file


def test_without_a_terminal_the_proposal_is_saved_with_what_to_edit_and_type(recorded, capfd):
    """Nothing is imported, and the table is shown."""
    with pytest.raises(PositronicError, match=r"(?s)Nothing is imported.*raw_mapping.yaml.*mapping=.*agree=true"):
        run(config(recorded))
    said = capfd.readouterr().err
    assert "robot_commands.joints" in said
    assert "no raw signal of embodiment=ur5e by its name and size" in " ".join(said.replace("│", " ").split())
    assert not (recorded.parent / "raw").exists()
    saved = read_mapping(recorded.parent / "raw_mapping.yaml")
    assert f"signals.{keys.JOINT_POSITION}.dims" in saved.undecided
    assert "fps" in saved.undecided


def test_an_edited_proposal_is_not_overwritten(recorded):
    """The next one gets a name of its own."""
    file = agreed(recorded)
    edited = file.read_text()
    with pytest.raises(PositronicError, match="raw_mapping_2.yaml"):
        run(config(recorded))
    assert file.read_text() == edited


def test_a_finished_mapping_imports_and_ends_with_the_next_command(recorded, capsys):
    """It is saved beside the dataset."""
    file = agreed(recorded)
    result = run(config(recorded, f"mapping={file}", "task=Pour."))
    dataset = open_dataset(result.path)
    assert (result.episodes, len(result.recorded), len(dataset)) == (4, 4, 4)
    assert dataset[3][keys.TARGET_GRIP].values[-1] == 1
    assert dataset[0][keys.GRIP].times_ns[1] == 10**8
    assert dataset[0].statics[keys.TASK] == "Pour."
    assert read_mapping(recorded.parent / "raw" / MAPPING_FILE) == result.mapping
    said = capsys.readouterr().out
    assert "4 episodes" in said
    assert f"stage=convert dataset=local dataset.path={result.path} codec=joints_cmd" in said


def test_the_same_command_again_imports_only_what_is_new(recorded):
    """By the saved mapping, without being asked."""
    run(config(recorded, f"mapping={agreed(recorded)}"))
    write(recorded / "take_4.h5", 4)
    kept = [each for each in typed(recorded) if not each.startswith("path")]
    result = run(positronic.compose([*kept, f"path={recorded.parent}/./{recorded.name}"]))  # the same place
    assert [(each.name, each.episode_id) for each in result.recorded] == [("take_4.h5", 4)]
    assert result.episodes == 5


def test_agree_takes_what_is_believed_unless_nothing_is(recorded):
    """The rate is nowhere; with it, everything has a belief but the commanded gripper, whose range fits as well."""
    with pytest.raises(PositronicError, match=r"decide what is \?\?\? in"):
        run(config(recorded, "agree=true"))
    result = run(config(recorded, "agree=true", "fps=10"))
    assert result.mapping.signals[keys.COMMAND_JOINTS].dims == (0, 1, 2, 3, 4, 5)
    assert result.episodes == 4


def test_a_mapping_with_faults_is_refused_with_all_of_them(recorded):
    """Before anything is written."""
    file = agreed(recorded)
    file.write_text(file.read_text().replace("from: joints", "from: joint").replace("from: wrist", "from: gripper"))
    with pytest.raises(PositronicError) as refused:
        run(config(recorded, f"mapping={file}"))
    said = str(refused.value)
    assert f"The mapping {file} cannot be used:" in said
    assert "no field 'joint'. Did you mean 'joints'?" in said
    assert "image.wrist: expected image, 'gripper' holds numbers." in said
    assert not (recorded.parent / "raw").exists()


def test_another_mapping_for_the_same_folder_is_refused(recorded):
    """With both values."""
    file = agreed(recorded)
    run(config(recorded, f"mapping={file}"))
    mapping = read_mapping(file)
    write_mapping(file, mapping)
    with pytest.raises(PositronicError, match=r"mapping.task: there absent; now Pour."):
        run(config(recorded, f"mapping={file}", "task=Pour."))


def test_a_camera_that_the_robot_lacks_is_added_by_what_the_message_says(recorded):
    """With its role, in the recording's embodiment too."""
    file = agreed(recorded)
    file.write_text(file.read_text().replace("image.wrist:", "image.hand:"))
    with pytest.raises(PositronicError, match=r"'embodiment.cameras=\{hand: <role>\}'"):
        run(config(recorded, f"mapping={file}"))
    result = run(config(recorded, f"mapping={file}", "embodiment.cameras={hand: hand}"))
    assert open_dataset(result.path)[0].statics[keys.EMBODIMENT]["cameras"]["hand"] == "hand"


def test_a_mapping_of_another_format_is_refused(recorded):
    """It may name fields that happen to be there."""
    file = agreed(recorded)
    file.write_text(file.read_text().replace("source: hdf5", "source: mcap"))
    with pytest.raises(PositronicError, match=r"is of source: mcap, found source=hdf5. Type source=mcap"):
        run(config(recorded, f"mapping={file}"))


def test_recordings_are_not_mixed_with_what_becomes_of_them(recorded):
    """The default output goes by the same name."""
    kept = [each for each in typed(recorded) if not each.startswith("output_dir")]
    with pytest.raises(
        PositronicError, match=rf"holds the recordings. Import elsewhere, e.g. output_dir={recorded}/?_raw"
    ):
        run(positronic.compose([*kept, f"output_dir={recorded}/"]))


def test_the_robot_is_not_guessed(recorded):
    """The choices are listed."""
    with pytest.raises(PositronicError, match=r"Type embodiment=<name>, one of aloha, .*ur5e or your own"):
        run(positronic.compose([each for each in typed(recorded) if not each.startswith("embodiment")]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["path=nowhere"], "path=nowhere: there is nothing"),
        (["mapping=nowhere.yaml"], "mapping=nowhere.yaml: there is no such file"),
        (["source=mcap"], "no ROS 2 bag"),
    ],
)
def test_what_is_not_there_is_named(recorded, more, message):
    """By its parameter."""
    kept = [each for each in typed(recorded) if each.partition("=")[0] != more[0].partition("=")[0]]
    with pytest.raises(PositronicError, match=message):
        run(positronic.compose([*kept, *more]))


def test_a_bad_episode_stops_and_the_same_command_goes_on(recorded):
    """It is named; skipping it is another command."""
    with h5py.File(recorded / "take_1.h5", "a") as file:
        file["joints"][3, 2] = np.nan
    more = [f"mapping={agreed(recorded)}"]
    with pytest.raises(PositronicError, match=r"(?s)take_1.h5.*sample 3 holds nan.*on_bad_episode=skip"):
        run(config(recorded, *more))
    result = run(config(recorded, *more, "on_bad_episode=skip"))
    assert result.episodes == 3
    assert [each.name for each in result.refused] == ["take_1.h5"]
    with h5py.File(recorded / "take_1.h5", "a") as file:
        file["joints"][3, 2] = 0.5
    assert [each.episode_id for each in run(config(recorded)).recorded] == [1]


def contents(root):
    """``{id: fingerprint}``; nothing unfinished is there."""
    found = {episode.id: episode.fingerprint() for episode in open_dataset(root)}
    assert len(list(episode_paths(root))) == len(found)
    return found


@pytest.mark.parametrize(("where", "number"), [(RESULT, signal.SIGINT), (START, signal.SIGTERM)])
def test_ctrl_c_leaves_whole_episodes_and_the_same_command_goes_on(press, recorded, where, number):
    """The result is that of a run that nobody interrupts."""
    command = typed(recorded, f"mapping={agreed(recorded)}")
    whole = run(
        positronic.compose([each for each in command if "output_dir" not in each] + [f"output_dir={recorded}_w"])
    )
    done = press(where, 1, [number], *command)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "Interrupted: stage=import.")
    assert "The same command goes on." in done.stdout
    run(positronic.compose(command))
    assert contents(recorded.parent / "raw") == contents(whole.path)


def test_a_killed_import_takes_its_processes_with_it_and_goes_on(kill, recorded):
    """Half episodes are not taken for whole ones."""
    command = typed(recorded, f"mapping={agreed(recorded)}")
    assert kill(RESULT, 2, *command) >= 2
    run(positronic.compose(command))
    assert list(contents(recorded.parent / "raw")) == [0, 1, 2, 3]


def test_on_a_terminal_it_asks(recorded):
    """Each convention once, and at last whether to import."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "run.py"), *typed(recorded, "fps=10")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    os.write(ours, b"\n" * 12)
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=recorded.parent,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = read_all(ours)
    assert process.returncode == 0, said
    assert "unit of robot_state.q" in said
    assert "Import 4 episodes into" in " ".join(said.split())
    assert len(open_dataset(recorded.parent / "raw")) == 4


def read_all(descriptor):
    said = b""
    while True:
        try:
            said += os.read(descriptor, 65536)
        except OSError:  # Linux's way of saying that nobody writes any more
            os.close(descriptor)
            return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", said.decode())
