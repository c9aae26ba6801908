"""Small recordings in other formats, made with those formats' own writers."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from positronic.embodiments.config import EmbodimentConfig
from positronic.embodiments.embodiment import Embodiment, build_embodiment

TYPES = get_typestore(Stores.ROS2_HUMBLE)
START_NS = 1_700_000_000 * 10**9
EMBODIMENTS = Path(__file__).parents[2] / "conf" / "embodiment"
OSC = {"type": "OSC_POSE", "control_delta": True}
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


def jpeg_of(pixels: np.ndarray) -> np.ndarray:
    """As bytes in numbers; nearly without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0)
    return np.frombuffer(file.getvalue(), np.uint8)


class BagMaker:
    """A bag with its own messages: ``add`` some, then ``write`` them in the order of recording."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._messages: list[tuple[int, str, str, object]] = []

    @staticmethod
    def message(kind: str, **fields: object) -> object:
        """``kind``: ``JointState``, ``Float64MultiArray``, ..."""
        name = next(name for name in TYPES.types if name.endswith(f"/{kind}"))
        return TYPES.types[name](**fields)

    def header(self, time_ns: int) -> object:
        stamp = self.message("Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        return self.message("Header", stamp=stamp, frame_id="base")

    def add(self, topic: str, kind: str, log_ns: int, header_ns: int | None = None, **fields: object) -> None:
        """A message, with a header if ``header_ns`` is given; -1 leaves it empty. Stamps count from ``START_NS``."""
        if header_ns is not None:
            fields["header"] = self.header(0 if header_ns == -1 else START_NS + header_ns)
        message = self.message(kind, **fields)
        self._messages.append((START_NS + log_ns, topic, message.__msgtype__, message))

    def joints(
        self, log_ns: int, values: dict[str, float], topic: str = "/joint_states", header_ns: int | None = None
    ) -> None:
        """A JointState that was measured 1 ms before it was recorded, unless ``header_ns`` says other."""
        arrays = {"position": np.array(list(values.values())), "velocity": np.zeros(0), "effort": np.zeros(0)}
        header_ns = log_ns - 10**6 if header_ns is None else header_ns
        self.add(topic, "JointState", log_ns, header_ns, name=list(values), **arrays)

    def frame(self, topic: str, log_ns: int, pixels: np.ndarray, text: str = "jpeg") -> None:
        """A CompressedImage that was taken 2 ms before it was recorded."""
        self.add(topic, "CompressedImage", log_ns, log_ns - 2 * 10**6, format=text, data=jpeg_of(pixels))

    def pose(self, topic: str, log_ns: int, position: tuple[float, ...], quat_xyzw: tuple[float, ...]) -> None:
        """A PoseStamped that was measured 1 ms before it was recorded."""
        point = self.message("Point", **dict(zip("xyz", position, strict=True)))
        turn = self.message("Quaternion", **dict(zip("xyzw", quat_xyzw, strict=True)))
        pose = self.message("Pose", position=point, orientation=turn)
        self.add(topic, "PoseStamped", log_ns, log_ns - 10**6, pose=pose)

    def write(self, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
        """The bag's folder."""
        kinds = {topic: kind for _, topic, kind, _ in self._messages}
        with Writer(self.path, version=9, storage_plugin=storage) as writer:
            connections = {topic: writer.add_connection(topic, kind, typestore=TYPES) for topic, kind in kinds.items()}
            for log_ns, topic, kind, message in sorted(self._messages, key=lambda each: each[0]):
                writer.write(connections[topic], log_ns, TYPES.serialize_cdr(message, kind))
        return self.path


@pytest.fixture
def bag(tmp_path: Path) -> BagMaker:
    """An empty bag, ``tmp_path / "bag"``."""
    return BagMaker(tmp_path / "bag")


@pytest.fixture
def aloha(tmp_path: Path) -> Callable[..., Path]:
    """Writes one more file of ALOHA's layout into ``tmp_path / "aloha"``, whose frames are red, then ever bluer."""

    def make(length: int = 24, compress: bool = False, **changed: np.ndarray) -> Path:
        folder = tmp_path / "aloha"
        folder.mkdir(exist_ok=True)
        path = folder / f"episode_{len(list(folder.iterdir()))}.hdf5"
        steps = np.arange(length)[:, None] / 100
        numbers = {
            "observations/qpos": steps + np.arange(14) / 10,
            "observations/qvel": np.full((length, 14), 0.5),
            "action": steps + np.arange(14) / 10 + 0.01,
        }
        with h5py.File(path, "w") as file:
            file.attrs.update(sim=not compress, compress=compress)
            for name, values in (numbers | changed).items():
                file[name] = values
            for camera in CAMERAS:
                frames = aloha_frames(length)
                file[f"observations/images/{camera}"] = _rows(frames) if compress else frames
            if compress:
                file["compress_len"] = np.zeros((len(CAMERAS), length), np.float32)
        return path

    return make


@pytest.fixture
def frames_of() -> Callable[[int], np.ndarray]:
    """The frames of each of ALOHA's cameras, by the length of the episode."""
    return aloha_frames


def aloha_frames(length: int) -> np.ndarray:
    """(length, 32, 48, 3): red, and as blue as the number of the frame."""
    frames = np.zeros((length, 32, 48, 3), np.uint8)
    frames[..., 0], frames[..., 2] = 200, 4 * np.arange(length)[:, None, None]
    return frames


def _rows(frames: np.ndarray) -> np.ndarray:
    """JPEGs in rows of one length. OpenCV was given RGB and took it for BGR, so red and blue are swapped."""
    files = [jpeg_of(frame[..., ::-1]) for frame in frames]
    longest = max(map(len, files))
    return np.stack([np.pad(file, (0, longest - len(file))) for file in files])


@pytest.fixture
def robot() -> Callable[[str], Embodiment]:
    """An embodiment of ``conf/embodiment``, by name."""

    def load(name: str) -> Embodiment:
        values = OmegaConf.load(EMBODIMENTS / f"{name}.yaml")
        values.pop("defaults", None)
        return build_embodiment(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(EmbodimentConfig), values)))

    return load


@pytest.fixture
def teleoperated(aloha: Callable[..., Path]) -> Callable[..., Path]:
    """Writes one more file of ALOHA's layout, whose grippers close in the course of it; returns the folder."""

    def make(length: int = 30, **changed: np.ndarray) -> Path:
        numbers = {}
        for field, ahead in (("observations/qpos", 0.0), ("action", 0.01)):
            values = np.arange(length)[:, None] / 100 + np.arange(14) / 10 + ahead
            values[:, [6, 13]] = np.linspace(1, 0, length)[:, None]
            numbers[field] = values
        return aloha(length, **numbers | changed).parent

    return make


@pytest.fixture
def robomimic(tmp_path: Path) -> Callable[..., Path]:
    """Writes robomimic's layout, one file of three episodes, of which the second has another length."""
    return lambda *arguments: write_robomimic(tmp_path / "image.hdf5", *arguments)


def write_robomimic(path: Path, controller: object = OSC, robot: str = "Panda") -> Path:
    with h5py.File(path, "w") as file:
        env_args = {"env_name": "Lift", "env_kwargs": {"control_freq": 20, "controller_configs": controller}}
        env_args["env_kwargs"]["robots"] = [robot]
        file.create_group("data").attrs.update(total=55, env_args=json.dumps(env_args))
        for number, length in ((0, 20), (2, 15), (10, 20)):
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs.update(num_samples=length, model_file="<mujoco>" + " " * 1000)
            demo["actions"] = np.full((length, 7), 0.5)
            demo["states"] = np.zeros((length, 32))
            demo["obs/robot0_eef_pos"] = np.full((length, 3), number, float)
            demo["obs/robot0_joint_pos"] = np.zeros((length, 7))
            demo["obs/robot0_gripper_qpos"] = np.tile([0.04, -0.04], (length, 1))
            demo["obs/robot0_eef_quat"] = np.tile([0.0, 0.0, 0.0, 1.0], (length, 1))
            demo["obs/agentview_image"] = np.full((length, 32, 48, 3), number, np.uint8)
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
    return path
