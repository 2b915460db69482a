"""Robots: one folder each, with `robot.yaml` (or one YAML a variant) and its URDF; no code.

The search lives in `hardware_io`: a robot's commands find it, too, where no simulator is installed.
"""

from __future__ import annotations

from hardware_io.robots import ROOT, find_robot, load_robot, robot_names

__all__ = ["ROOT", "find_robot", "load_robot", "robot_names"]
