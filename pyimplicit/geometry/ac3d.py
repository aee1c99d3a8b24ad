"""Reader of AC3D text files (.ac, .acc): the geometry only, as one triangle soup in the coordinates of the world."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyimplicit.errors import MeshFileError

Array = NDArray[np.float64]
Number = TypeVar("Number", int, float)

MAX_DEPTH = 1000
"""Deepest nesting of objects that is read; real files stay below ten."""

POLYGON, CLOSED_LINE, LINE, STRIP = 0, 1, 2, 4  # low four bits of the flags of a SURF


class Ac3dMesh(NamedTuple):
    """The triangles of an AC3D file, and whether objects that it announces are missing."""

    vertices: Array  # [V, 3] float64
    faces: NDArray[np.int64]  # [F, 3] int64
    missing: int = 0  # objects that `kids` lines announce and that the file does not hold


def parse_ac3d(text: str, leave_out: Collection[str] = ()) -> Ac3dMesh:
    """Read the triangles of an AC3D file.

    Polygons are cut into fans, triangle strips (an extension of the racing game TORCS) into triangles of one
    orientation; lines are ignored. Each object's `rot` and `loc`, and those of the objects around it, are applied.
    Texture names, materials and texture coordinates are skipped. Vertices are neither merged nor dropped.

    A file may end between two objects although more were announced: editors that delete objects leave `kids` counts
    behind that are too high. What is there is returned, with the number of those that are missing, because a file that
    was cut just there looks the same. A file that ends inside an object is refused.

    Args:
        text: The whole file.
        leave_out: Names of objects whose own surfaces are skipped, such as the wake behind a ship; objects inside them
            are not.

    Returns:
        Vertices [V, 3] float64 and faces [F, 3] int64, which may be empty, and the number of missing objects.

    Raises:
        MeshFileError: Not an AC3D file, cut inside an object or malformed, and then the message names the line; or no
            object has a name in `leave_out`.

    Source:
        Andy Colebourne, The AC3D file format; the strips: TORCS, ssggraph/grloadac.cpp.

    Example:
        >>> text = "AC3Db\\nOBJECT poly\\nnumvert 3\\n0 0 0\\n1 0 0\\n0 1 0\\nnumsurf 1\\nSURF 0x0\\nmat 0\\nrefs 3\\n"
        >>> vertices, faces, missing = parse_ac3d(text + "0 0 0\\n1 0 0\\n2 0 0\\nkids 0\\n")
        >>> vertices.shape, faces.tolist(), missing
        ((3, 3), [[0, 1, 2]], 0)
    """
    parser = _Parser(text, leave_out)
    missing = parser.parse()
    if unknown := sorted(set(leave_out) - parser.left_out):
        raise MeshFileError(f"no object is named {', '.join(unknown)}")
    vertices = np.concatenate(parser.vertices) if parser.vertices else np.zeros((0, 3))
    return Ac3dMesh(vertices, np.array(parser.faces, dtype=np.int64).reshape(-1, 3), missing)


class _Parser:
    """A cursor over the lines, and the triangles found so far."""

    def __init__(self, text: str, leave_out: Collection[str]) -> None:
        self.lines = text.split("\n")
        self.leave_out = frozenset(leave_out)
        self.left_out: set[str] = set()
        self.line = 0  # lines consumed, which is also the number of the current line, from 1
        self.vertices: list[Array] = []
        self.vertex_count = 0
        self.faces: list[tuple[int, int, int]] = []

    def parse(self) -> int:
        """Read the whole file; return how many objects it announces and does not hold."""
        if not self.lines[0].startswith("AC3D"):
            raise MeshFileError(f"line 1: expected the header 'AC3D', got {self.lines[0][:40]!r}")
        self.line = 1
        # Objects still open: their rotation and place in the world, and how many children are to come.
        parents: list[tuple[Array, Array, int]] = []
        while (words := self._next_words()) is not None:
            if words[0] != "OBJECT":
                if words[0] != "MATERIAL":
                    raise self._error(f"expected MATERIAL or OBJECT, got {words[0]!r}")
                continue
            rotation, place = (parents[-1][0], parents[-1][1]) if parents else (np.eye(3), np.zeros(3))
            if parents:
                parents[-1] = (rotation, place, parents[-1][2] - 1)
            rotation, place, kids = self._object(rotation, place)
            parents.append((rotation, place, kids))
            while parents and parents[-1][2] == 0:
                parents.pop()
            if len(parents) > MAX_DEPTH:
                raise self._error(f"objects nested more than {MAX_DEPTH} deep")
        return sum(kids for _, _, kids in parents)

    def _object(self, rotation: Array, place: Array) -> tuple[Array, Array, int]:
        """Read one object up to its `kids` line; return its transformation to the world and its number of children."""
        around = rotation  # of the object around this one: `loc` is in its axes
        points: Array = np.zeros((0, 3))
        surfaces: list[tuple[int, list[int]]] = []
        name = ""
        while (words := self._next_words()) is not None:
            key = words[0]
            if key == "name":
                name = " ".join(words[1:]).strip('"')
            elif key == "loc":
                place = self._in_world(np.array([self._numbers(words[1:], 3, float)]), around, place)[0]
            elif key == "rot":
                # Nine numbers, column by column.
                columns = np.array(self._numbers(words[1:], 9, float)).reshape(3, 3)
                rotation = self._in_world(columns, around, np.zeros(3)).T
            elif key == "data":
                self._skip_data(self._count(words))
            elif key == "numvert":
                points = self._vertices(self._count(words))
            elif key == "numsurf":
                surfaces = [self._surface(len(points)) for _ in range(self._count(words))]
            elif key == "kids":
                if name in self.leave_out:
                    self.left_out.add(name)
                    return rotation, place, self._count(words)
                self.vertices.append(self._in_world(points, rotation, place))
                for kind, corners in surfaces:
                    self.faces.extend(self._triangles(kind, corners))
                self.vertex_count += len(points)
                return rotation, place, self._count(words)
            elif key in ("OBJECT", "MATERIAL", "SURF"):
                raise self._error(f"{key} inside an object: its 'kids' line is missing")
            # All else (texture, crease, url, ...) says nothing about the geometry.
        raise self._error("the file ends inside an object")

    def _in_world(self, points: Array, rotation: Array, place: Array) -> Array:
        """Rotate and move points [N, 3]; a rotation in a damaged file may be any matrix."""
        with np.errstate(over="ignore", invalid="ignore"):
            moved: Array = points @ rotation.T + place
        if not np.isfinite(moved).all():
            raise self._error("expected finite coordinates, got NaN or infinity")
        return moved

    def _vertices(self, count: int) -> Array:
        """Read `count` lines that begin with x y z; TORCS adds a normal."""
        points = np.empty((count, 3))
        for row in range(count):
            points[row] = self._numbers(self._expect("a vertex"), 3, float)
        return points

    def _surface(self, vertex_count: int) -> tuple[int, list[int]]:
        """Read one SURF; return its kind and its vertex numbers."""
        words = self._expect("SURF")
        try:
            flags = int(words[1], 16)
        except (IndexError, ValueError):
            flags = -1
        if words[0] != "SURF" or flags < 0:
            raise self._error(f"expected SURF and its flags, got {' '.join(words)[:40]!r}")
        while (words := self._expect("refs"))[0] != "refs":
            if words[0] != "mat":
                raise self._error(f"expected mat or refs, got {words[0]!r}")
        corners = []
        for _ in range(self._count(words)):
            (corner,) = self._numbers(self._expect("a vertex number"), 1, int)
            if not 0 <= corner < vertex_count:
                raise self._error(f"vertex number {corner} of a surface, but the object has {vertex_count} vertices")
            corners.append(corner)
        return flags & 0xF, corners

    def _triangles(self, kind: int, corners: list[int]) -> Iterator[tuple[int, int, int]]:
        """Cut one surface into triangles, with vertex numbers that count from the first object's."""
        numbers = [corner + self.vertex_count for corner in corners]
        if kind == POLYGON:
            for one, other in pairwise(numbers[1:]):
                yield numbers[0], one, other
        elif kind == STRIP:
            for first in range(len(numbers) - 2):
                a, b, c = numbers[first : first + 3]
                # A strip turns at every triangle; one that names a vertex twice is a mere joint.
                if a != b and b != c and c != a:
                    yield (a, b, c) if first % 2 == 0 else (b, a, c)
        elif kind not in (CLOSED_LINE, LINE):
            raise self._error(f"a surface of the unknown kind {kind} in the object that ends here")

    def _skip_data(self, length: int) -> None:
        """Skip the free text after `data`: `length` characters, line ends included, and the rest of its line."""
        while True:
            if self.line >= len(self.lines):
                raise self._error("the file ends inside the text of 'data'")
            length -= len(self.lines[self.line]) + 1
            self.line += 1
            if length < 0:
                return

    def _next_words(self) -> list[str] | None:
        """Return the words of the next line that is not empty, or None at the end."""
        while self.line < len(self.lines):
            words = self.lines[self.line].split()
            self.line += 1
            if words:
                return words
        return None

    def _expect(self, what: str) -> list[str]:
        words = self._next_words()
        if words is None:
            raise self._error(f"expected {what}, got the end of the file")
        return words

    def _count(self, words: list[str]) -> int:
        """Return the whole number after a key word. No more things can follow than lines are left."""
        (count,) = self._numbers(words[1:], 1, int)
        left = len(self.lines) - self.line
        if not 0 <= count <= (left if words[0] != "data" else sum(map(len, self.lines))):
            raise self._error(f"{words[0]} {count}, but only {left} lines follow")
        return count

    def _numbers(self, words: list[str], count: int, kind: type[Number]) -> list[Number]:
        """Return the first `count` words as numbers."""
        try:
            numbers = [kind(word) for word in words[:count]]
        except ValueError:
            numbers = []
        if len(numbers) < count:
            raise self._error(f"expected {count} number{'s' * (count > 1)}, got {' '.join(words)[:60]!r}")
        return numbers

    def _error(self, message: str) -> MeshFileError:
        return MeshFileError(f"line {self.line}: {message}")
