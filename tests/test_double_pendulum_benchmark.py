"""The published double-pendulum benchmarks: plant, perturbations, scores, and files as controllers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.double_pendulum import knockdown
from benchmarks.double_pendulum.ceiling import Informed, nearest
from benchmarks.double_pendulum.lqr import Lqr, Zero, regulator
from benchmarks.double_pendulum.performance import Costs, costs, line, score
from benchmarks.double_pendulum.plant import DT, GOAL, GRAVITY, NOMINAL, Parameters, Plant, is_upright, tip_height
from benchmarks.double_pendulum.references import swing_up_cost
from benchmarks.double_pendulum.robustness import (
    BUMPED,
    CATEGORIES,
    bump_torque,
    draw_bumps,
    majority,
    perturbation,
    score_category,
)
from benchmarks.double_pendulum.simulate import Conditions, clock, simulate
from benchmarks.double_pendulum.trajectory import Plan, cost_of, follow, improve
from hardware_io.state import Array

# The first steps of a published run (History SAC, pendubot, simulation_v2/history_sac/sim_swingup.csv of the DFKI lab's
# real_ai_gym_leaderboard, BSD 3-Clause): q1, q2, v1, v2 and the shoulder's torque until the next row.
PUBLISHED_RUN = [
    (0.0, 0.0, 0.0, 0.0, -1.032428026199340820),
    (-5.612118704765061610e-05, 9.141391277409521311e-05, -5.611972508933180115e-02, 9.141116844953704745e-02,
     -1.005715012550354004),
    (-2.230151260313225497e-04, 3.632574764303313523e-04, -1.107698650356178371e-01, 1.804242311552456401e-01,
     -9.816677570343017578e-01),
    (-4.978703780710630380e-04, 8.109382663425564967e-04, -1.640782204578153936e-01, 2.672431032902115033e-01,
     -9.758723974227905273e-01),
    (-8.789787407866225680e-04, 1.431652459687144307e-03, -2.170201960350118808e-01, 3.534524119282869137e-01, 0.0),
]  # fmt: skip


class Told:
    """Gives a fixed torque and keeps what it was told."""

    def __init__(self, give: float = 0.0) -> None:
        self.give, self.measured = give, list[Array]()

    def start(self, lanes: int) -> None:
        self.measured = []

    def torque(self, measured: Array, step: int, asked: Array) -> Array:
        self.measured.append(measured.copy())
        return np.full(measured.shape[1], self.give)


def test_energy_is_conserved_without_friction_and_torque() -> None:
    plant, state = Plant(NOMINAL), np.array([[2.0, 3.0], [1.0, -1.0], [0.5, 4.0], [-2.0, 3.0]])
    before = plant.energy(state)
    for _ in range(2000):
        state = plant.step(state, np.zeros((2, 2)))
    np.testing.assert_allclose(plant.energy(state), before, atol=1e-6)


def test_power_is_torque_times_velocity_less_what_friction_takes() -> None:
    plant = Plant(Parameters(b1=0.02, b2=-0.03, c1=0.1, c2=0.2, rotor=5e-5))
    state, torque = np.array([[0.7], [-0.4], [1.5], [-2.5]]), np.array([[1.0], [-0.5]])
    taken = 0.02 * 1.5**2 - 0.03 * 2.5**2 + 0.1 * np.arctan(150.0) * 1.5 + 0.2 * np.arctan(250.0) * 2.5
    slope = (plant.energy(plant.step(state, torque, 1e-5)) - plant.energy(state)) / 1e-5
    np.testing.assert_allclose(slope, 1.0 * 1.5 + 0.5 * 2.5 - taken, rtol=1e-3)


def test_plant_equals_mujoco() -> None:
    """MuJoCo integrates by Runge-Kutta 4 too, so that nothing but rounding is left; its armature is a rotor alone."""
    mujoco = pytest.importorskip("mujoco")
    p = replace(NOMINAL, b1=0.05, b2=-0.02)
    bodies = "".join(
        f'<body pos="0 0 {-(p.l1 if i == 2 else 0)}"><joint type="hinge" axis="0 -1 0" damping="{b}"/>'
        f'<inertial pos="0 0 {-r}" mass="{m}" diaginertia="{about - m * r * r} {about - m * r * r} 0.005"/>'
        for i, (m, r, about, b) in enumerate(((p.m1, p.r1, p.i1, p.b1), (p.m2, p.r2, p.i2, p.b2)), 1)
    )
    text = (
        f'<mujoco><compiler boundmass="0" boundinertia="0"/><option timestep="{DT}" integrator="RK4" '
        f'gravity="0 0 {-GRAVITY}"/><worldbody>{bodies}</body></body></worldbody></mujoco>'
    )
    model = mujoco.MjModel.from_xml_string(text)
    data, plant, rng = mujoco.MjData(model), Plant(p), np.random.default_rng(0)
    state = np.array([[1.0], [-0.5], [2.0], [1.0]])
    data.qpos[:], data.qvel[:] = state[:2, 0], state[2:, 0]
    for _ in range(200):
        torque = rng.uniform(-6, 6, (2, 1))
        data.qfrc_applied[:] = torque[:, 0]
        mujoco.mj_step(model, data)
        state = plant.step(state, torque)
    np.testing.assert_allclose(state[:, 0], [*data.qpos, *data.qvel], rtol=1e-9, atol=1e-9)


def test_plant_repeats_a_published_run() -> None:
    plant = Plant(NOMINAL)
    for row, following in pairwise(PUBLISHED_RUN):
        state = plant.step(np.array(row[:4])[:, None], np.array([[row[4]], [0.0]]))
        np.testing.assert_allclose(state[:, 0], following[:4], rtol=1e-12, atol=1e-15)


def test_rotors_add_their_geared_inertia_and_react_on_the_link_before() -> None:
    """At rest, hanging: M · acceleration = torque, with M of the paper."""
    rotor, p = 1e-4, NOMINAL
    coupling = p.m2 * p.l1 * p.r2
    m11 = p.i1 + p.i2 + p.m2 * p.l1**2 + 2 * coupling + 36 * rotor + rotor
    m12, m22 = p.i2 + coupling - 6 * rotor, p.i2 + 36 * rotor
    wanted = np.linalg.solve([[m11, m12], [m12, m22]], [1.0, 2.0])
    slope = Plant(Parameters(rotor=rotor)).derivative(np.zeros((4, 1)), np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(slope[2:, 0], wanted)


def test_heights_and_whole_turns() -> None:
    states = np.array([[0, 0, 0, 0], GOAL, [3 * np.pi, -2 * np.pi, 0, 0], [np.pi, np.pi, 0, 0], [np.pi, 0, 1.0, 0]]).T
    np.testing.assert_allclose(tip_height(states), [-0.5, 0.5, 0.5, -0.1, 0.5], atol=1e-12)
    assert is_upright(states).tolist() == [False, True, True, False, False]


def test_the_clock_has_as_many_steps_as_the_published_one() -> None:
    assert len(clock(10.0)) == 5000 and clock(10.0)[-1] == 9.998000000000008214


def test_model_changes_one_parameter_at_a_time() -> None:
    category = CATEGORIES["model"]()
    rows = category.conditions.parameters.rows()
    assert rows.shape == (13, 210) and category.repetitions == 1
    changed = ~np.isclose(rows, NOMINAL.rows(), rtol=1e-12, atol=0)
    assert changed.sum(axis=0).max() == 1
    p = category.conditions.parameters
    m2 = 6 * 21  # m2 alone: its r2 stays, so that the product m2 · r2 changes with it
    np.testing.assert_allclose((p.m2[m2], p.r2[m2]), (0.75 * NOMINAL.m2, NOMINAL.r2))
    product = 5 * 21 + 20
    np.testing.assert_allclose((p.m2[product], p.r2[product]), (NOMINAL.m2, 1.25 * NOMINAL.r2))
    np.testing.assert_allclose((p.rotor[20], p.b1[63], p.c2[209]), (1e-4, -0.1, 0.2))
    assert category.labels[0] == "Ir 0" and category.labels[-1] == "cf2 0.2"


def test_delay_tells_old_states() -> None:
    told, start = Told(), np.array([1.0, 0.5, 0.0, 0.0])
    simulate(told, 0, Conditions(3, delay=np.array([0, 1, 3])), [0], 0.02, start)
    measured = np.array(told.measured)  # (T, 4, n)
    np.testing.assert_array_equal(measured[1:, :, 1], measured[:-1, :, 0])
    np.testing.assert_array_equal(measured[3:, :, 2], measured[:-3, :, 0])
    np.testing.assert_array_equal(measured[:3, :, 2], np.tile(start, (3, 1)))


def test_delays_are_whole_steps() -> None:
    delay = CATEGORIES["delay"]().conditions.delay
    np.testing.assert_array_equal(delay[[0, 1, 5, 20]], [0, 1, 5, 20])


def test_velocity_noise_leaves_positions_alone() -> None:
    told, sigma = Told(), np.repeat([0.0, 0.5], 50)
    simulate(told, 0, Conditions(100, velocity_noise=sigma), [0], 0.4)  # it hangs still
    measured = np.array(told.measured)
    assert not measured[:, :2].any() and not measured[:, :, :50].any()
    np.testing.assert_allclose(measured[:, 2:, 50:].std(), 0.5, rtol=0.02)


def test_torque_noise_comes_before_the_limit() -> None:
    quiet = simulate(Told(1.0), 0, Conditions(200, torque_noise=0.3), [0], 0.2, record=True).torque
    np.testing.assert_allclose((quiet.mean(), quiet.std()), (1.0, 0.3), atol=0.01)
    assert simulate(Told(6.0), 0, Conditions(9, torque_noise=1.0), [0], 0.1, record=True).torque.max() == 6.0


def test_response_goes_a_share_of_the_way() -> None:
    torque = simulate(Told(2.0), 1, Conditions(3, response=np.array([0.1, 1.0, 2.0])), [0], 0.008, record=True).torque
    np.testing.assert_allclose(torque.T, [[0.2, 0.38, 0.542, 0.6878], [2, 2, 2, 2], [4, 0, 4, 0]], atol=1e-12)


def test_bumps_come_after_the_limit_and_reach_the_joint_that_acts() -> None:
    bumps = np.zeros((4, 2))
    bumps[2, 1] = 3.0
    for acting in (0, 1):
        run = simulate(Told(9.0), acting, Conditions(2, bumps=bumps), [0], 0.008, record=True)
        np.testing.assert_array_equal(run.torque.T, [[6, 6, 6, 6], [6, 6, 9, 6]])
        torque = np.zeros((2, 1))
        torque[acting] = 9.0
        np.testing.assert_allclose(run.state[3, :, 1:], Plant(NOMINAL).step(run.state[2, :, 1:], torque))


def test_bumps_have_their_distances_widths_and_heights() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_bumps(rng) for _ in range(200)]
    centres, widths, heights = (np.array(part) for part in zip(*drawn, strict=True))
    assert np.diff(np.sort(centres, axis=1), axis=1).min() >= 1.0
    assert 1.0 <= centres.min() < 1.1 and 8.0 < centres.max() <= 9.0
    assert 0.05 <= widths.min() < 0.06 and 0.09 < widths.max() <= 0.1
    assert 0.5 <= np.abs(heights).min() < 0.7 and 4.8 < np.abs(heights).max() <= 5.0
    assert 0.4 < (heights > 0).mean() < 0.6
    one = bump_torque(np.array([1.0, 1.1]), np.array([1.0]), np.array([0.1]), np.array([2.0]))
    np.testing.assert_allclose(one, [2.0, 2.0 * np.exp(-0.5)])
    assert perturbation().conditions.bumps.shape == (5000, BUMPED)


def test_a_level_of_noise_is_passed_by_more_than_half() -> None:
    success = np.repeat([True, False] * 3, [5, 5, 6, 4, 0, 10])
    assert majority(success, 10).tolist() == [False, True, False]
    assert CATEGORIES["velocity_noise"]().conditions.lanes == 210


@pytest.mark.parametrize("name", ["response", "delay"])
def test_doing_nothing_scores_nothing(name: str) -> None:
    result = score_category(Zero(), 0, name)
    assert result["score"] == 0.0 and len(result["failed"]) == 21


@pytest.mark.parametrize("acting", [0, 1])
def test_a_regulator_keeps_upright_what_starts_there(acting: int) -> None:
    start = np.array([np.pi - 0.05, 0.05, 0.0, 0.0])
    conditions = replace(CATEGORIES["velocity_noise"]().conditions, velocity_noise=0.0, torque_noise=0.5)
    final = simulate(Lqr(acting), acting, conditions, [1], 2.0, start).final
    assert is_upright(final).all()
    assert not is_upright(simulate(Zero(), acting, Conditions(1), [1], 2.0, start).final).any()


def test_regulator_is_that_of_the_study() -> None:
    """At 100 Hz, weights 1, 1, 0.1, 0.1 and 0.5; found by others with other code."""
    gains = [regulator(Plant(NOMINAL), 1, a, np.array([1, 1, 0.1, 0.1]), 0.5, hold=5)[1][0] for a in (0, 1)]
    np.testing.assert_allclose(gains[0], [-27.8, -27.5, -6.5, -4.8], atol=0.3)
    np.testing.assert_allclose(gains[1], [-98, -41, -21, -9.5], atol=1.0)


def test_a_run_that_flies_apart_is_lost_and_tells_no_infinities() -> None:
    told = Told(6.0)
    final = simulate(told, 0, Conditions(2, Parameters(b1=np.array([0.0, -3.0]))), [0], 2.0).final
    assert np.isfinite(final[:, 0]).all() and np.isnan(final[:, 1]).all()
    assert np.isfinite(np.array(told.measured)).all() and not is_upright(final)[1]


@pytest.mark.parametrize(
    ("published", "found"),
    [  # scores.csv of simulation_v2 in the DFKI lab's real_ai_gym_leaderboard
        (0.6552699844147534, Costs(1.0, 8.077749161960673, 1.8037118196867141, 0.009546752841345449, 88.49656055254)),
        (
            0.6823779743749803,
            Costs(1.152, 7.673973574502183, 2.359531440786147, 0.007146586919567306, 62.07262004073),
        ),
        (
            0.6588462186786841,
            Costs(1.15, 7.719128043253907, 2.426981034454814, 0.010329143078101377, 64.32603787855),
        ),
        (0.0, Costs(9.998000000000008, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_performance_is_the_published_formula(published: float, found: Costs) -> None:
    assert score(found) == pytest.approx(published, abs=1e-12)


def test_costs_by_hand() -> None:
    """Six steps: down, up, down, then up to the end; the elbow acts."""
    state = np.zeros((6, 4))
    state[[1, 3, 4, 5], 0] = np.pi
    state[:, 1] = [0, 0.1, 0.3, 0.2, 0.2, 0.2]
    state[:, 2:] = [[1, 0], [2, 1], [0, 0], [0, 3], [0, 0], [9, 9]]
    found = costs(state, np.array([1.0, -2.0, 4.0, 0.0, 0.0, 9.0]), 1)
    assert found.swing_up_time == pytest.approx(0.006)
    assert found.energy == pytest.approx(0.1 * 1 + 0.2 * 2 + 0.1 * 4)
    assert found.torque_cost == pytest.approx((1 + 4 + 16) * DT)
    assert found.torque_smoothness == pytest.approx(np.std([-3, 6, -4, 0, 9]))
    assert found.velocity_cost == pytest.approx((1 + 5 + 9) * DT)
    assert line() == pytest.approx(0.45)


def test_knocks_are_drawn_as_numpy_once_did() -> None:
    legacy = np.random.RandomState(777)
    poses = legacy.uniform(0.0, 2 * np.pi, (15, 4)) - np.pi
    jitter = 2 * (legacy.rand(15) - 0.5)
    times, found = knockdown.draw_knocks(777)
    np.testing.assert_array_equal(found, poses[:, :2])
    np.testing.assert_allclose(times, 3.75 * np.arange(1, 16) + jitter, rtol=1e-15)


def test_a_knock_throws_towards_its_pose_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone, the regulator would stay upright; for 0.2 s from 0.1 s on it is not asked."""
    poses = np.zeros((15, 2))
    poses[0] = [1.0, 0.5]
    monkeypatch.setattr(knockdown, "draw_knocks", lambda seed: (np.array([0.1, *range(70, 84)], float), poses))
    monkeypatch.setattr(knockdown, "DURATION", 1.0)

    class Watched(Told):
        def torque(self, measured: Array, step: int, asked: Array) -> Array:
            heard.append((step, bool(asked[0])))
            return super().torque(measured, step, asked)

    heard: list[tuple[int, bool]] = []
    states = knockdown.run(Watched(), 0, [1])
    silent = sorted(set(range(500)) - {step for step, asked in heard if asked})
    assert silent == list(range(50, 150))
    assert not states[:51].any()
    assert np.abs(states[150, :2, 0] - poses[0]).max() < 0.6 < np.abs(poses[0]).max()


def test_time_above_the_line_counts() -> None:
    states = np.zeros((30000, 4, 2))
    states[:, 0, 0] = np.pi
    states[:15000, 0, 1] = np.pi
    np.testing.assert_allclose(knockdown.uptime(states), [1.0, 0.5], atol=1e-4)


def test_iterative_lqr_improves_and_keeps_the_limit() -> None:
    plant, goal = Plant(NOMINAL), np.tile(GOAL[:, None], 2)
    cost = swing_up_cost(plant, 2, 0, goal)
    rest = Plan(np.zeros((61, 4, 2)), np.zeros((60, 2)), np.zeros((60, 2, 4)), np.zeros(2))
    state, torque = follow(plant, rest, 0, 5, np.full((60, 2), [1.0, -2.0]))
    plan = Plan(state, torque, rest.gain, cost_of(cost, state, torque))
    better = improve(plant, 0, cost, plan, 5, 8)
    assert (better.cost < 0.8 * plan.cost).all() and np.abs(better.torque).max() <= 6.0
    again, _ = follow(plant, better, 0, 5, np.zeros((60, 2)))
    np.testing.assert_allclose(again, better.state, atol=1e-8)
    np.testing.assert_allclose(cost_of(cost, better.state, better.torque), better.cost)


def test_a_policy_that_is_told_everything_undoes_bumps_and_the_motors_answer() -> None:
    """It balances as if there were neither, to rounding."""
    rest, start = Plan(np.zeros((1, 4, 1)), np.zeros((0, 1)), np.zeros((0, 1, 4)), np.zeros(1)), GOAL - 0.02
    bumps = np.zeros((5000, 3))
    bumps[20:60, 1] = 4.0
    conditions = Conditions(3, response=np.array([1.0, 1.0, 0.2]), bumps=bumps)
    run = simulate(Informed(conditions, rest, Lqr(0).gain[None]), 0, conditions, [0], 0.4, start, record=True)
    np.testing.assert_allclose(run.state[:, :, 1:], np.repeat(run.state[:, :, :1], 2, axis=2), atol=1e-9)
    assert is_upright(run.state[-1]).all()


def test_the_next_try_starts_from_the_nearest_neighbour_that_is_up() -> None:
    there, groups = np.array([True, False, False, False, True, False]), np.array([0, 0, 0, 0, 1, 2])
    assert nearest(np.array([1, 3, 5]), there, groups).tolist() == [0, 0, 5]
