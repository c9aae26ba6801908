"""Poses and rotations. The layout is in the name; every function works on a leading batch of any shape.

- ``quat_wxyz``: unit quaternion, scalar first.
- ``rot6d_rows``: the first two ROWS of the rotation matrix, row 0 then row 1 (Zhou et al., "On the Continuity of
  Rotation Representations in Neural Networks", CVPR 2019, which uses columns; the robots' data here uses rows).
- ``matrix``: (..., 3, 3), row-major when flattened.
- ``rotvec``: axis times angle, rad.

All arithmetic is written out by component: no reduction, no BLAS. So a batch of one gives the same bits as the whole
episode, which the codecs rely on. Inputs are taken as float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from positronic.errors import PositronicError

Floats = NDArray[np.float64]

MIN_NORM = 1e-9
ROTATION_DIMS = {"quat_wxyz": 4, "rot6d_rows": 6, "rotvec": 3}


class NoDirectionError(PositronicError):
    """A quaternion or a row of a rotation of (almost) no length."""


def _length(*parts: Floats) -> Floats:
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total = total + part * part
    return np.sqrt(total)


def _check_norm(norm: Floats, what: str) -> None:
    if not np.all(norm > MIN_NORM):
        raise NoDirectionError(
            f"{what} has no direction: norm {float(np.min(norm)):.3g}, expected more than {MIN_NORM}."
        )


def quat_normalise(quat_wxyz: ArrayLike) -> Floats:
    """Scale (..., 4) to unit length. Raises NoDirectionError when the norm is (almost) zero or not a number."""
    q = np.asarray(quat_wxyz, np.float64)
    norm = _length(q[..., 0], q[..., 1], q[..., 2], q[..., 3])
    _check_norm(norm, "Quaternion")
    return q / norm[..., None]


def quat_multiply(left: ArrayLike, right: ArrayLike) -> Floats:
    """The rotation ``right``, then ``left``; (..., 4) scalar first."""
    w1, x1, y1, z1 = np.moveaxis(np.asarray(left, np.float64), -1, 0)
    w2, x2, y2, z2 = np.moveaxis(np.asarray(right, np.float64), -1, 0)
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )


def quat_conjugate(quat_wxyz: ArrayLike) -> Floats:
    """The rotation back: (..., 4) scalar first -> (..., 4)."""
    return np.asarray(quat_wxyz, np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def quat_to_matrix(quat_wxyz: ArrayLike) -> Floats:
    """(..., 4) scalar first -> (..., 3, 3)."""
    q = quat_normalise(quat_wxyz)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quat(matrix: ArrayLike) -> Floats:
    """(..., 3, 3) -> (..., 4) scalar first with w >= 0; Shepperd's method (AIAA J. Guidance and Control 1(3), 1978)."""
    m = np.asarray(matrix, np.float64)
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    trace = d0 + d1 + d2
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    s01, s02, s12 = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    candidates = np.stack(
        [
            np.stack([1 + trace, a, b, c], axis=-1),
            np.stack([a, 1 + d0 - d1 - d2, s01, s02], axis=-1),
            np.stack([b, s01, 1 - d0 + d1 - d2, s12], axis=-1),
            np.stack([c, s02, s12, 1 - d0 - d1 + d2], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.stack([trace, d0, d1, d2], axis=-1), axis=-1)  # the largest keeps the division well conditioned
    quat = quat_normalise(np.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :])
    return np.where(quat[..., :1] < 0, -quat, quat)


def matrix_to_rot6d(matrix: ArrayLike) -> Floats:
    """(..., 3, 3) -> (..., 6): row 0, then row 1."""
    m = np.asarray(matrix, np.float64)
    return np.concatenate([m[..., 0, :], m[..., 1, :]], axis=-1)


def rot6d_to_matrix(rot6d_rows: ArrayLike) -> Floats:
    """(..., 6) -> (..., 3, 3) by Gram-Schmidt. Raises NoDirectionError for zero or collinear rows."""
    v = np.asarray(rot6d_rows, np.float64)
    a, b = v[..., :3], v[..., 3:]
    norm_a = _length(a[..., 0], a[..., 1], a[..., 2])
    _check_norm(norm_a, "First row of rot6d")
    row0 = a / norm_a[..., None]
    along = row0[..., 0] * b[..., 0] + row0[..., 1] * b[..., 1] + row0[..., 2] * b[..., 2]
    rest = b - along[..., None] * row0
    norm_b = _length(rest[..., 0], rest[..., 1], rest[..., 2])
    _check_norm(norm_b, "Second row of rot6d, beside the first,")
    row1 = rest / norm_b[..., None]
    return np.stack([row0, row1, np.cross(row0, row1)], axis=-2)


def quat_to_rotvec(quat_wxyz: ArrayLike) -> Floats:
    """(..., 4) scalar first -> (..., 3) axis times angle, angle in [0, pi] rad."""
    q = quat_normalise(quat_wxyz)
    q = np.where(q[..., :1] < 0, -q, q)
    sine = _length(q[..., 1], q[..., 2], q[..., 3])
    angle = 2 * np.arctan2(sine, q[..., 0])
    scale = np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)
    return q[..., 1:] * scale[..., None]


def rotvec_to_quat(rotvec: ArrayLike) -> Floats:
    """(..., 3) axis times angle, rad -> (..., 4) scalar first."""
    v = np.asarray(rotvec, np.float64)
    angle = _length(v[..., 0], v[..., 1], v[..., 2])
    scale = np.where(angle > 1e-12, np.sin(angle / 2) / np.maximum(angle, 1e-12), 0.5)
    return np.concatenate([np.cos(angle / 2)[..., None], v * scale[..., None]], axis=-1)


def quat_to(rotation: str, quat_wxyz: ArrayLike) -> Floats:
    """Unit quaternion, scalar first, to the named representation: ``quat_wxyz``, ``rot6d_rows`` or ``rotvec``."""
    if rotation == "quat_wxyz":
        return quat_normalise(quat_wxyz)
    if rotation == "rot6d_rows":
        return matrix_to_rot6d(quat_to_matrix(quat_wxyz))
    if rotation == "rotvec":
        return quat_to_rotvec(quat_wxyz)
    raise PositronicError(f"Unknown rotation '{rotation}'. Expected one of {', '.join(ROTATION_DIMS)}.")


def quat_from(rotation: str, values: ArrayLike) -> Floats:
    """The named representation back to a unit quaternion, scalar first."""
    if rotation == "quat_wxyz":
        return quat_normalise(values)
    if rotation == "rot6d_rows":
        return matrix_to_quat(rot6d_to_matrix(values))
    if rotation == "rotvec":
        return rotvec_to_quat(values)
    raise PositronicError(f"Unknown rotation '{rotation}'. Expected one of {', '.join(ROTATION_DIMS)}.")


def pose_to(rotation: str, pose_wxyz: ArrayLike) -> Floats:
    """Pose (..., 7) ``[x y z qw qx qy qz]`` -> (..., 3 + d) with the rotation in the named representation."""
    pose = np.asarray(pose_wxyz, np.float64)
    return np.concatenate([pose[..., :3], quat_to(rotation, pose[..., 3:])], axis=-1)


def pose_from(rotation: str, values: ArrayLike) -> Floats:
    """(..., 3 + d) with the named rotation -> pose (..., 7) ``[x y z qw qx qy qz]``."""
    values = np.asarray(values, np.float64)
    return np.concatenate([values[..., :3], quat_from(rotation, values[..., 3:])], axis=-1)


def quat_toward(quat_wxyz: ArrayLike, reference_wxyz: Sequence[float]) -> Floats:
    """Of q and -q, which are the same rotation, the one on the side of the reference: (..., 4) -> (..., 4).

    Samples on that side keep their bits. At a right angle to the reference, the first component that is not 0 decides.
    """
    q = np.asarray(quat_wxyz, np.float64)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    side = _decided(w * reference_wxyz[0] + x * reference_wxyz[1] + y * reference_wxyz[2] + z * reference_wxyz[3], q)
    return np.where(side[..., None] < 0, 0.0 - q, q)  # 0 - q: no negative zeros


def rotvec_toward(rotvec: ArrayLike, reference: Sequence[float]) -> Floats:
    """Of r and (|r| - 2 pi) r / |r|, which are the same rotation, the one nearer to the reference: (..., 3) -> (...,
    3).

    |r| is at most pi. The difference of the squared distances is 4 pi (|r| (|r| - pi) - r . reference) / |r|.
    """
    r = np.asarray(rotvec, np.float64)
    angle = _length(r[..., 0], r[..., 1], r[..., 2])
    along = r[..., 0] * reference[0] + r[..., 1] * reference[1] + r[..., 2] * reference[2]
    side = _decided(along - angle * (angle - np.pi), r)
    other = r * ((angle - 2 * np.pi) / np.maximum(angle, MIN_NORM))[..., None]
    return np.where((side < 0)[..., None], other, r)


def _decided(side: Floats, values: Floats) -> Floats:
    """``side``, and where that is 0 the first of ``values`` that is not."""
    for component in range(values.shape[-1]):
        side = np.where(side == 0, values[..., component], side)
    return side
