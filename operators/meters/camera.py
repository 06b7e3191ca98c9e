# SPDX-License-Identifier: Apache-2.0
"""What of a flow field the camera does, and the word for what it does over a clip.

The camera moves what lies behind everything else. Most of the picture is not always that: a lorry may fill half of it.
So every movement that two samples agree on stands for election. Blocks of the picture vote, not samples, so that a
richly textured thing does not count for more than its area. Blocks at the picture's edge, where things are seldom,
count three times, those in its corners five times; votes that lie far apart, as around a thing, count more than a
cluster (by the square root of their moment of inertia); and no movement wins narrow elections, for nothing that moves
stands still by chance.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from operators.scores import Groups

PROXY_HEIGHT_PX = 270
GRID_PX = 8  # spacing of the flow samples that the camera is fitted to
TEXTURE_LEVELS = 1.0, 2.0  # gradient, levels per pixel, above which a sample's flow can be trusted: the lower one
NOISE_TIMES = 2.5  # if it is this many times what the flattest 5 % of the picture show, which is noise
INLIERS = (0.25, 0.15)  # a sample follows the camera within 0.25 px + 15 % of the camera's own flow
SURELY = (0.5, 0.05)  # and is laid over the picture before within these
END_PX = 0.25  # tolerance of the last step
FIT_STEPS = 10
START_PX, START_SHARE = 0.7, 0.02  # tolerance of the election and of the first step, plus 2 % of the median flow
NUM_PAIRS, NUM_SINGLES, MAX_VOTERS = 160, 32, 480
MAX_GROWTH = 0.3  # of the picture from one frame to the next
STILL_FAVOUR = 0.85  # no movement wins with this share of the best candidate's votes
BLOCK_COLUMNS, BLOCK_ROWS = 8, 6

# Speeds that move the picture's upper and lower edge, frame heights per second; the bounds of captioning/wording.py.
STILL, MOVING = 0.01, 0.02
STILL_PX = 0.08  # proxy pixels a pair: below it nobody can tell, whatever that is a second
SHAKING = 0.05
MIN_SAMPLES, MIN_KNOWN, MIN_INLIERS = 3, 0.5, 0.15
DOMINANT = 2.0  # a movement names the class if it is this many times faster than every other one
STATIC, UNKNOWN = "static", "unknown"
CLASSES = (
    STATIC, "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "roll", "handheld", "mixed",
    UNKNOWN,
)  # fmt: skip


def flow_samples(flow_HW: np.ndarray, luma_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions about the centre (x + iy, pixels), flow and whether there is texture, on a grid: [N] each."""
    import cv2

    height, width = luma_HW.shape
    dx_HW, dy_HW = (np.abs(cv2.Sobel(luma_HW, cv2.CV_16S, dx, 1 - dx)) for dx in (1, 0))  # eighths of a level per pixel
    texture_HW = cv2.blur(dx_HW + dy_HW, (GRID_PX, GRID_PX))
    y, x = np.mgrid[GRID_PX // 2 : height : GRID_PX, GRID_PX // 2 : width : GRID_PX]
    z = (x - (width - 1) / 2) + 1j * (y - (height - 1) / 2)
    texture = texture_HW[y, x].ravel() / np.float32(8)
    bound = np.clip(NOISE_TIMES * np.quantile(texture, 0.05), *TEXTURE_LEVELS)
    return z.ravel(), flow_HW[y, x].ravel().astype(np.complex128), texture > bound


def fit_similarity(z: np.ndarray, flow: np.ndarray) -> tuple[complex, complex]:
    """The complex `growth`, `shift` with flow = growth * z + shift of what lies behind.

    Args:
        z, flow: [N] complex positions about the centre and displacements, pixels; x is real, y (down) imaginary.

    Returns:
        growth (real part: relative growth, imaginary: clockwise radians) and shift of the picture at z = 0.

    Source: candidates from pairs of samples as in RANSAC (Fischler and Bolles 1981), elected by blocks (ours); then
        reweighted least squares with a Geman-McClure weight narrowed step by step (Yang et al. 2020).
    """
    weight = _votes(z)
    tolerance = START_PX + START_SHARE * float(np.median(np.abs(flow)))
    growth, shift = _elected(z, flow, weight, tolerance)
    return _refined(z, flow, weight, growth, shift, tolerance)


def _votes(z: np.ndarray) -> np.ndarray:
    """[N] weights: a block has one vote, three at the edge, five in a corner, fewer if little of it has texture."""
    half = np.maximum(np.abs(np.real(z)).max(), 1.0), np.maximum(np.abs(np.imag(z)).max(), 1.0)
    column = np.clip((np.real(z) / half[0] + 1) / 2 * BLOCK_COLUMNS, 0, BLOCK_COLUMNS - 1).astype(int)
    row = np.clip((np.imag(z) / half[1] + 1) / 2 * BLOCK_ROWS, 0, BLOCK_ROWS - 1).astype(int)
    block = row * BLOCK_COLUMNS + column
    counts = np.bincount(block, minlength=BLOCK_COLUMNS * BLOCK_ROWS)
    num_edges = (column % (BLOCK_COLUMNS - 1) == 0).astype(int) + (row % (BLOCK_ROWS - 1) == 0)
    return (1.0 + 2.0 * num_edges) / np.maximum(counts[block], counts.max() / 2)


def _elected(z: np.ndarray, flow: np.ndarray, weight: np.ndarray, tolerance: float) -> tuple[complex, complex]:
    """The candidate with most votes that lie far apart; no movement, if it has nearly as many."""
    step = -(-len(z) // MAX_VOTERS)
    z, flow, weight = z[::step], flow[::step], weight[::step]
    growth_K, shift_K = _candidates(z, flow)
    x, y = _parts(z)
    u, v = _parts(flow)
    growing_K, turning_K = _parts(growth_K[:, None])
    right_K, down_K = _parts(shift_K[:, None])
    off_KN = np.square(growing_K * x - turning_K * y + (right_K - u))
    off_KN += np.square(turning_K * x + growing_K * y + (down_K - v))
    off_KN /= np.float32(tolerance**2)
    off_KN += 1
    sums_K4 = np.square(1 / off_KN) @ (np.stack([np.ones_like(x), x, y, x * x + y * y], axis=1) * weight[:, None])
    votes_K, inertia_K = sums_K4[:, 0], sums_K4[:, 3] - np.square(sums_K4[:, 1:3]).sum(axis=1) / sums_K4[:, 0]
    score_K = np.sqrt(votes_K * inertia_K.clip(0))
    best = int(np.argmax(score_K))
    if score_K[0] >= STILL_FAVOUR * score_K[best]:
        best = 0
    return complex(growth_K[best]), complex(shift_K[best])


def _parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.real(values).astype(np.float32), np.imag(values).astype(np.float32)


def _candidates(z: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[K] growth and shift: no movement first, the median shift, single samples' shifts, and pairs far apart."""
    one, two = np.random.default_rng(0).integers(0, len(z), (2, NUM_PAIRS))  # the same draw every time
    apart = z[two] - z[one]
    is_far = np.abs(apart) > np.abs(np.imag(z)).max() / 2
    one, growth = one[is_far], (flow[two] - flow[one])[is_far] / apart[is_far]
    is_likely = np.abs(growth) < MAX_GROWTH
    one, growth = one[is_likely], growth[is_likely]
    singles = flow[:: -(-len(flow) // NUM_SINGLES)]
    median = complex(np.median(np.real(flow)), np.median(np.imag(flow)))
    growth_K = np.concatenate([np.zeros(2 + len(singles)), growth])
    return growth_K, np.concatenate([[0, median], singles, flow[one] - growth * z[one]])


def _refined(
    z: np.ndarray, flow: np.ndarray, votes: np.ndarray, growth: complex, shift: complex, tolerance: float
) -> tuple[complex, complex]:
    ratio = (END_PX / tolerance) ** (1 / (FIT_STEPS - 1))
    for _ in range(FIT_STEPS):
        off = flow - growth * z - shift
        weight = votes / (1 + (np.real(off) ** 2 + np.imag(off) ** 2) / tolerance**2) ** 2
        weight /= weight.sum()
        z_mean, flow_mean = weight @ z, weight @ flow
        centred = z - z_mean
        growth = complex((weight * centred.conj()) @ (flow - flow_mean) / ((weight @ np.abs(centred) ** 2) or 1.0))
        shift = complex(flow_mean - z_mean * growth)
        tolerance *= ratio
    return growth, shift


def behind_HW(is_behind: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W]: the pixels around the samples [N] that are said to lie behind."""
    rows, columns = (len(range(GRID_PX // 2, side, GRID_PX)) for side in shape)
    blocks_HW = is_behind.reshape(rows, columns).repeat(GRID_PX, axis=0).repeat(GRID_PX, axis=1)
    result_HW = np.zeros(shape, bool)
    height, width = min(shape[0], blocks_HW.shape[0]), min(shape[1], blocks_HW.shape[1])
    result_HW[:height, :width] = blocks_HW[:height, :width]
    return result_HW


def follows(
    z: np.ndarray, flow: np.ndarray, growth: complex, shift: complex, tolerance: tuple[float, float] = INLIERS
) -> tuple[np.ndarray, np.ndarray]:
    """[N] distance of each sample's flow from the camera's, pixels, and whether it is within (pixels, share of it)."""
    camera_flow = z * growth + shift
    residual = np.abs(flow - camera_flow)
    return residual, residual <= tolerance[0] + tolerance[1] * np.abs(camera_flow)


def camera_classes(groups: Mapping[str, Groups], fps: Sequence[float | None]) -> list[str]:
    """The class of each clip from the camera series and the clips' frame rates; see `camera_class`."""
    names = ("camera_pan", "camera_tilt", "camera_zoom", "camera_roll")
    pan = groups["camera_pan"]
    order = np.argsort(pan.clip, kind="stable")
    path_N4 = np.column_stack([groups[name].values[order] for name in names])
    inliers = groups["camera_inlier_share"].mean()
    num_pairs = groups["motion_speed"].counts
    ends = pan.starts + pan.counts
    return [
        camera_class(path_N4[start:end], int(pairs), float(share), rate or 0.0)
        for start, end, pairs, share, rate in zip(pan.starts, ends, num_pairs, inliers, fps, strict=True)
    ]


def camera_class(path_N4: np.ndarray, num_pairs: int, inlier_share: float, fps: float) -> str:
    """One of CLASSES for a clip.

    Args:
        path_N4: pan, tilt, zoom, roll of the samples at which the camera is known, as the series have them.
        num_pairs: samples at which there is flow; the camera may be unknown at some.
        inlier_share: mean of camera_inlier_share.
        fps: frames per second; 0 if unknown.
    """
    if len(path_N4) < max(MIN_SAMPLES, MIN_KNOWN * num_pairs):
        return UNKNOWN
    edge_N4 = path_N4 * np.array([1, 1, 0.5, np.radians(0.5)])  # speed at half a frame height from the centre
    middle_4 = np.median(edge_N4, axis=0)
    spread_4 = 1.4826 * np.median(np.abs(edge_N4 - middle_4), axis=0)
    speed_N = np.sqrt(np.square(edge_N4).sum(axis=1))
    still = max(STILL, STILL_PX * fps / PROXY_HEIGHT_PX)
    if np.quantile(speed_N, 0.75) < still:
        return STATIC  # however little of the picture follows it: nothing that moves stands still by chance
    if inlier_share < MIN_INLIERS:
        return UNKNOWN
    is_steady = np.abs(middle_4) >= np.maximum(MOVING / STILL * still, spread_4)
    if not is_steady.any():
        shake = np.linalg.norm(spread_4)
        return "handheld" if shake >= still or np.quantile(speed_N, 0.75) >= SHAKING else "mixed"
    first, second = np.argsort(-np.abs(middle_4) * is_steady)[:2]
    if is_steady[second] and abs(middle_4[first]) < DOMINANT * abs(middle_4[second]):
        return "mixed"
    return _NAMES[first][int(middle_4[first] < 0)]


_NAMES = (("pan_right", "pan_left"), ("tilt_up", "tilt_down"), ("zoom_in", "zoom_out"), ("roll", "roll"))
