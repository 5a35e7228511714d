"""A person at a page's socket, and pictures to send."""

import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image

from genie_gym.play.connection import FILE_MESSAGE, FRAME_HEADER, FRAME_MESSAGE

HERE = "http://127.0.0.1"
SOCKET = "ws://127.0.0.1/play"


class Person:
    """A person at a page's socket, who has received the description of the world."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.world = socket.receive_json()

    def ask(self, **order: Any) -> np.ndarray:
        """Send an order and return the frame that answers it."""
        self.socket.send_text(json.dumps(order))
        return self.frame()

    def frame(self) -> np.ndarray:
        packed, start = self.socket.receive_bytes(), struct.calcsize(FRAME_HEADER)
        kind, self.steps, self.last_action = struct.unpack(FRAME_HEADER, packed[:start])
        assert kind == FRAME_MESSAGE
        return np.frombuffer(packed[start:], np.uint8).reshape(self.world["height"], self.world["width"], 3)

    def start_on(self, picture: bytes) -> np.ndarray:
        """Send a picture and return the first frame of its episode."""
        self.socket.send_bytes(picture)
        said = self.socket.receive_json()
        assert said["kind"] == "picture"
        self.fitting = said["message"]
        return self.frame()

    def file(self, kind: str) -> bytes:
        self.socket.send_text(json.dumps({"do": "save", "as": kind}))
        packed = self.socket.receive_bytes()
        assert packed[0] == FILE_MESSAGE
        return bytes(packed[1:])

    def complaint(self, message: str | bytes) -> str:
        """Send a message and return the error that answers it."""
        (self.socket.send_bytes if isinstance(message, bytes) else self.socket.send_text)(message)
        said = self.socket.receive_json()
        assert said["kind"] == "error"
        return str(said["message"])


def png(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()
