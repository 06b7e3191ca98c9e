# SPDX-License-Identifier: Apache-2.0
"""Made-up footage to fit the shipped codebook on: free of rights, the same on every run.

A scene is a background and a foreground that move apart, rendered at twice the size and averaged down: 1/f textures,
dead leaves (discs of all sizes that hide each other, the standard model of natural images: Lee, Mumford, Huang 2001),
colour gradients, strokes like text; then camera pan, zoom, sensor noise and a change of light.
"""

from collections.abc import Iterator

import numpy as np

SIDE_PX = 256
FRAMES = 9


def synthetic_windows(count: int, seed: int, side_px: int = SIDE_PX, frames: int = FRAMES) -> Iterator[np.ndarray]:
    """`count` windows of uint8 RGB [frames, side, side, 3]."""
    for index in range(count):
        yield _window(np.random.Generator(np.random.Philox(key=[seed, index])), side_px, frames)


def _window(rng: np.random.Generator, side: int, frames: int) -> np.ndarray:
    import cv2

    back = _canvas(rng, 2 * side + 128)
    front = _canvas(rng, 2 * side + 128)
    mask = (_noise(rng, len(back), 2.2) > rng.uniform(0.3, 2.0)).astype(np.float32)[..., None]
    speed_px = rng.choice([0.5, 2.0, 6.0, 16.0]) * rng.random()
    zoom = 1 + rng.choice([0.0, 0.004]) * rng.normal()
    angle = rng.uniform(0, 2 * np.pi)
    light, noise = rng.normal(0, 0.01), rng.choice([0.0, 0.0, 1.0, 2.5])
    blur = rng.choice([0.0, 0.7, 1.2, 2.0])
    out_THWC = np.empty((frames, side, side, 3), np.uint8)
    for t in range(frames):
        layers = []
        for image, depth in ((back, 1.0), (front, 1.7), (mask, 1.7)):
            dx, dy = (64 + 2 * speed_px * depth * t * f(angle) for f in (np.cos, np.sin))
            scale = zoom ** (t * depth)
            matrix = np.array([[scale, 0, dx], [0, scale, dy]], np.float32)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            moved = cv2.warpAffine(image, matrix, (2 * side, 2 * side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
            layers.append(moved if moved.ndim == 3 else moved[..., None])
        frame = layers[0] * (1 - layers[2]) + layers[1] * layers[2]
        if blur:
            frame = cv2.GaussianBlur(frame, (0, 0), blur)
        frame = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) * (1 + light * t)
        frame = frame + noise * rng.standard_normal(frame.shape, np.float32)
        out_THWC[t] = np.clip(np.rint(frame), 0, 255)
    return out_THWC


def _canvas(rng: np.random.Generator, side: int) -> np.ndarray:
    """float32 [side, side, 3] in 0..255."""
    base = _gradient(rng, side)
    kind = rng.choice(["texture", "leaves", "gradient", "text"], p=[0.3, 0.5, 0.1, 0.1])
    if kind == "leaves":
        return _leaves(rng, side, base)
    if kind == "text":
        return _text(rng, side, base)
    depth = rng.uniform(10, 60) if kind == "texture" else 3.0
    return np.clip(base + depth * _texture(rng, side), 0, 255)


def _noise(rng: np.random.Generator, side: int, slope: float) -> np.ndarray:
    """float32 [side, side] of mean 0 and variance 1 with amplitudes 1 / f ** slope."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.maximum(np.hypot(fy, fx), 1 / side)
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / radius**slope
    field = np.fft.irfft2(spectrum, s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """float32 [side, side, 3]: a grey 1/f field with a weaker, smoother one per colour difference."""
    grey = _noise(rng, side, rng.uniform(0.7, 1.5))
    tint = np.stack([_noise(rng, side, 1.8) for _ in range(2)], axis=-1) * rng.uniform(0, 0.35)
    blue, red = tint[..., 0], tint[..., 1]
    return np.stack([grey + red, grey - 0.3 * blue - 0.5 * red, grey + blue], axis=-1)


def _color(rng: np.random.Generator) -> np.ndarray:
    """A muted colour: brightness anywhere, saturation mostly low."""
    return np.clip(rng.uniform(5, 245) + rng.normal(0, rng.choice([6, 20, 45]), 3), 0, 255).astype(np.float32)


def _gradient(rng: np.random.Generator, side: int) -> np.ndarray:
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = (ramp[:, None] * np.sin(angle) + ramp[None] * np.cos(angle)).astype(np.float32)
    along = (along - along.min()) / (along.max() - along.min())
    return _color(rng) * (1 - along[..., None]) + _color(rng) * along[..., None]


def _leaves(rng: np.random.Generator, side: int, base: np.ndarray) -> np.ndarray:
    image = base.copy()
    texture = _texture(rng, side)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for radius in np.sort(5 / np.sqrt(1 - rng.random(400) * 0.999))[::-1]:
        cy, cx, turn = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.5, 2)
        top, bottom = max(0, int(cy - 2 * radius)), min(side, int(cy + 2 * radius) + 2)
        left, right = max(0, int(cx - 2 * radius)), min(side, int(cx + 2 * radius) + 2)
        box = slice(top, bottom), slice(left, right)
        inside = (y[box] - cy) ** 2 * turn + (x[box] - cx) ** 2 / turn < radius**2
        image[box][inside] = _color(rng) + rng.uniform(2, 40) * texture[box][inside]
    return np.clip(image, 0, 255)


def _text(rng: np.random.Generator, side: int, base: np.ndarray) -> np.ndarray:
    """Lines of small strokes on a 5 x 7 raster, like captions and signs."""
    image, ink = base.copy(), _color(rng)
    cell = int(rng.integers(2, 9))
    for top in range(cell, side - 8 * cell, 11 * cell):
        for left in range(cell, side - 6 * cell, 6 * cell):
            if rng.random() < 0.75:
                glyph = np.kron(rng.random((7, 5)) < 0.45, np.ones((cell, cell), bool))
                image[top : top + 7 * cell, left : left + 5 * cell][glyph] = ink
    return image
