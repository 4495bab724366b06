"""The reading room: data, results and trainings looked at in the browser, served from this machine to its own user."""

from segue.view.room.app import room_app
from segue.view.room.files import NothingToShowError, files_room
from segue.view.room.opening import room_of_dataset, runs_room
from segue.view.room.serving import serve
from segue.view.room.shelf import Room, RoomCase
from segue.view.room.volumes import VolumeCache

__all__ = [
    "NothingToShowError",
    "Room",
    "RoomCase",
    "VolumeCache",
    "files_room",
    "room_app",
    "room_of_dataset",
    "runs_room",
    "serve",
]
