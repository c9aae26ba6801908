"""Every raw, wire and artefact key, once. Imports nothing.

Units: metres, radians, nanoseconds (``*_ns``) or float seconds (``*_sec``). Poses are ``[x, y, z, qw, qx, qy, qz]``.
Column names of baked datasets are not here: they are values of the modality (``conf/modality``).
"""

# Raw signals: what a robot measures and what it was told.
MEASURED_PREFIX = "robot_state."
JOINT_POSITION = "robot_state.q"  # (7,) rad
JOINT_VELOCITY = "robot_state.dq"  # (7,) rad/s
EE_POSE = "robot_state.ee_pose"  # (7,) m and unit quaternion, scalar first
COMMAND_POSE = "robot_commands.pose"  # (7,) commanded absolute end-effector pose
COMMAND_JOINTS = "robot_commands.joints"  # (7,) commanded absolute joint positions, rad
COMMAND_JOINT_DELTAS = "robot_commands.joint_deltas"  # (7,) commanded joint deltas, rad
COMMAND_RESET = "robot_commands.reset"  # int 1 at the moment of a reset
GRIP = "grip"  # scalar, 0 = open, 1 = closed
TARGET_GRIP = "target_grip"  # scalar, 0 = open, 1 = closed
IMAGE_PREFIX = "image."
IMAGE_WRIST = "image.wrist"  # uint8 RGB, height x width x 3
IMAGE_EXTERIOR = "image.exterior"

# How far a policy's commands are from those of the recording that it is run against.
REPLAY_PREFIX = "replay."
REPLAY_POSITION_ERROR = "replay.position_error"  # m
REPLAY_ROTATION_ERROR = "replay.rotation_error"  # rad
REPLAY_JOINT_ERROR = "replay.joint_error"  # rad, the largest of the joints
REPLAY_GRIP_ERROR = "replay.grip_error"  # 0..1

# With several arms each has keys of its own: robot_state.left.q, robot_commands.left.joints, grip.left, and on the wire
# robot_command.left. Those of an only arm are the plain ones.
ONLY_ARM = "arm"  # how configs call it
PER_ARM = frozenset(
    [
        *(JOINT_POSITION, JOINT_VELOCITY, EE_POSE, COMMAND_POSE, COMMAND_JOINTS, COMMAND_JOINT_DELTAS, COMMAND_RESET),
        *(GRIP, TARGET_GRIP),
        *(REPLAY_POSITION_ERROR, REPLAY_ROTATION_ERROR, REPLAY_JOINT_ERROR, REPLAY_GRIP_ERROR),
    ]
)

# Newer recordings say `robot_command.*`; readers offer them under the older, published name.
SIGNAL_PREFIX_ALIASES = {"robot_command.": "robot_commands."}

# Statics of an episode.
TASK = "task"
JOINT_NAMES = "joint_names"  # of robot_state.q, in order; newer recordings note them
EMBODIMENT = "embodiment"  # which robot it is: Embodiment.to_dict()
IMPORTED = "imported"  # of an episode that was recorded elsewhere: its source, its name there, what else it said
EVAL_SUCCESS = "eval.success"
EVAL_SEED = "eval.seed"
EVAL_OUTCOME = "eval.outcome"
EVAL_DURATION = "eval.duration"  # s
EVAL_SUCCESS_SEC = "eval.success_sec"  # when the success had lasted long enough
EVAL_METRICS = "eval.metrics"  # which of the signals are scores
EVAL_LATENCIES_MS = "eval.latencies_ms"  # of each answer; in meta.json, as no two runs have the same
EVAL_REASON = "eval.reason"  # why an episode was aborted
EVAL_IDLE_FRAMES = "eval.idle_frames"  # control steps at which nothing was due, as the policy's answer was not there
EVAL_SMOOTHNESS = "eval.smoothness"  # log dimensionless jerk of the measured tool
EVAL_CLAMPED_STEPS = "eval.clamped_steps"  # steps that were changed to keep to the driver's limits
POLICY_PREFIX = "inference.policy."
SIMULATION_PREFIX = "simulation."

# Observation on the wire, beside the raw signals.
OBS_TIME_NS = "obs_time_ns"
WALL_TIME_NS = "wall_time_ns"
MEASURED_TIMES_NS = "measured_times_ns"  # map: raw signal -> when it was measured, on the clock of obs_time_ns
ANSWER_WITHIN_SEC = "answer_within_sec"  # number: an answer that would begin later is not wanted any more
NOISE_SEED = "noise_seed"  # int, or some: of the random numbers that the answer starts from

# One decoded action step on the wire; with several arms robot_command.left, target_grip.left, ...
ROBOT_COMMAND = "robot_command"
TIMESTAMP = "timestamp"  # float seconds from the start of the chunk

# Session messages.
STATUS = "status"
MESSAGE = "message"
META = "meta"
RESULT = "result"
ERROR = "error"
MODELS = "models"
PROTOCOL_VERSION = "protocol_version"  # absent means 1, which is what our server speaks
SESSION_ID = "session_id"  # these three from version 2 on
OBSERVATION = "observation"
END_SESSION = "end_session"

# Values of STATUS; ERROR is the fourth.
STATUS_WAITING = "waiting"
STATUS_LOADING = "loading"
STATUS_READY = "ready"

# Keys inside a session's meta.
META_TYPE = "type"
META_CHECKPOINT_ID = "checkpoint_id"
META_CHECKPOINT_PATH = "checkpoint_path"
META_EXPERIMENT = "experiment_name"
META_VENDOR = "vendor"
META_CODEC = "codec"
META_CONVENTIONS = "conventions"
META_EMBODIMENT = "embodiment"  # the robot that it was trained for: Embodiment.to_dict()
META_ROBOT = "robot"  # what of that its codec needs, as Embodiment.contract
META_IMAGE_SIZES = "image_sizes"
META_COMPRESS_IMAGES = "compress_images"
META_LOCAL_STACK = "local_stack"
STACK_SEQUENCE = "seq"  # its nodes: parts one after another, or beside each other
STACK_PARALLEL = "par"
STACK_NAME = "name"  # its leaves: a part's name, and arguments by name
STACK_ARGS = "args"
STACK_SCHEDULE = "chunked_schedule"  # parts
STACK_IMAGE_SIZE = "restrict_image_size"
STACK_WIDTH = "width"  # their arguments
STACK_HEIGHT = "height"
STACK_FPS = "fps"
STACK_HORIZON_SEC = "horizon_sec"
STACK_VALUES = "values"
META_ACTION_FPS = "action_fps"
META_ACTION_HORIZON_SEC = "action_horizon_sec"

# Routes.
ROUTE_MODELS = "/api/v1/models"
ROUTE_SESSION = "/api/v1/session"
ROUTE_HEALTH = "/healthz"
ROUTE_READY = "/readyz"
ROUTE_METRICS = "/metrics"
ROUTE_OPENPI = "/openpi"
HEADER_ROBOT = "Positronic-Robot"  # of a session's request: what the client states of its robot, as JSON
STATED_COMMANDS = "commands"  # in it, beside META_ROBOT and META_CONVENTIONS
QUERY_CHECKPOINT = "checkpoint_id"  # of a session's URL, beside the path

# LeRobot's own names, which its policies and GR00T's loader look for. Other columns are values of a modality.
LEROBOT_STATE = "observation.state"
LEROBOT_IMAGES = "observation.images."  # followed by the camera
LEROBOT_ACTION = "action"
LEROBOT_TOKENS = "observation.language.tokens"  # of a preprocessed batch
LEROBOT_TOKEN_MASK = "observation.language.attention_mask"
LEROBOT_TASK = "task"  # of a batch, for a policy that reads the instruction

# What openpi's policies of one arm call observations.
OPENPI_STATE = "observation/state"
OPENPI_IMAGE = "observation/image"
OPENPI_WRIST_IMAGE = "observation/wrist_image"
OPENPI_RIGHT_WRIST_IMAGE = "observation/right_wrist_image"
OPENPI_PROMPT = "prompt"
OPENPI_ACTIONS = "actions"  # of an answer, and how long it took
OPENPI_SERVER_TIMING = "server_timing"
OPENPI_POLICY_TIMING = "policy_timing"
OPENPI_INFER_MS = "infer_ms"  # parts of those two
OPENPI_LAST_MS = "prev_total_ms"  # of the observation before
OPENPI_IMAGES = "images"  # the map of pictures that ALOHA's clients send

# Formats of LeRobot's datasets.
FORMAT_V30 = "v3.0"
FORMAT_V21 = "v2.1"
LAYOUT_LEROBOT = "lerobot"  # of a dataset that is trained on as it is

# Files.
INFO_FILE = "meta/info.json"  # in a LeRobot dataset
STATS_FILE = "meta/stats.json"
MANIFEST_FILE = "meta/positronic.json"  # in a baked dataset
EPISODES_SIDECAR = "meta/positronic_episodes.parquet"  # where each baked episode came from
FILE_LIST = "meta/positronic_files.txt"  # size and checksum of each file of a baked dataset
CHECKPOINT_FILE = "positronic.json"  # in a checkpoint
UNFINISHED = ".unfinished"  # in a raw episode that is still being written


def of_arm(key: str, arm: str) -> str:
    """The key of one of several arms: ``robot_state.q`` of left is ``robot_state.left.q``, ``grip`` is ``grip.left``.

    An empty ``arm`` is the only one, whose keys are the plain ones.
    """
    group, _, quantity = key.partition(".")
    return ".".join(part for part in (group, arm, quantity) if part)


def split_arm(key: str) -> tuple[str, str]:
    """The inverse, ``(plain key, arm)``. A key that no arm has comes back as it is, with an empty arm."""
    group, _, rest = key.partition(".")
    arm, _, quantity = rest.partition(".")
    plain = ".".join(part for part in (group, quantity) if part)
    if key in PER_ARM or not arm or plain not in (*PER_ARM, ROBOT_COMMAND):
        return key, ""
    return plain, arm
