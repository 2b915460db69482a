"""The trust region step on problems whose answer is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from adapt.trpo import TRPOSettings, conjugate_gradient, curvature_product, trust_region_step
from policies.perceptron import Perceptron


def spread_matrix(size: int) -> Tensor:
    """Symmetric and positive definite, with eigenvalues from 0.1 to 10."""
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    return basis @ torch.logspace(-1, 1, size, dtype=torch.float64).diag() @ basis.T


def test_conjugate_gradient_is_exact_after_as_many_iterations_as_dimensions() -> None:
    matrix, b = spread_matrix(8), torch.randn(8, dtype=torch.float64)
    x = conjugate_gradient(lambda v: matrix @ v, b, iterations=8, tolerance=0.0)
    assert torch.allclose(x, torch.linalg.solve(matrix, b), atol=1e-10)


def test_conjugate_gradient_stops_at_its_tolerance() -> None:
    matrix, b = spread_matrix(30), torch.randn(30, dtype=torch.float64)
    calls = 0

    def product(vector: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return matrix @ vector

    x = conjugate_gradient(product, b, iterations=100, tolerance=0.01)
    assert calls < 30 and (matrix @ x - b).norm() <= 0.01 * b.norm()


@pytest.mark.parametrize("curvature", [0.0, -1.0, float("nan")])
def test_conjugate_gradient_gives_up_where_there_is_no_curvature(curvature: float) -> None:
    assert not conjugate_gradient(lambda v: curvature * v, torch.ones(3), iterations=5, tolerance=0.0).any()


def quadratic(parameter: nn.Parameter, matrix: Tensor) -> Callable[[], Tensor]:
    """½ (x − x₀)ᵀ matrix (x − x₀) from where the parameter is now."""
    start = parameter.detach().clone()
    return lambda: 0.5 * (parameter - start) @ matrix @ (parameter - start)


def test_a_linear_surrogate_under_a_quadratic_divergence_has_a_known_step() -> None:
    """max gᵀs with ½ sᵀHs ≤ δ: s = √(2 δ / gᵀH⁻¹g) H⁻¹g."""
    matrix = spread_matrix(6)
    parameter, gradient = nn.Parameter(torch.randn(6, dtype=torch.float64)), torch.randn(6, dtype=torch.float64)
    before = parameter.detach().clone()
    settings = TRPOSettings(max_kl=0.01, cg_tolerance=0.0, damping=0.0, backtrack_ratio=0.999999)
    metrics = trust_region_step([parameter], lambda: gradient @ parameter, quadratic(parameter, matrix), settings)
    natural = torch.linalg.solve(matrix, gradient)
    wanted = natural * torch.sqrt(2 * 0.01 / (gradient @ natural))
    assert torch.allclose(parameter.detach() - before, wanted, rtol=1e-5)
    assert metrics["accepted"] == 1 and metrics["kl"] == pytest.approx(0.01, rel=1e-5)
    assert metrics["improvement"] == pytest.approx(float(gradient @ wanted), rel=1e-5)


class Policy:
    """A small Gaussian policy, its surrogate for random advantages and its divergence from where it is now."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.network, self.log_std = Perceptron([3, 16, 2], output_gain=0.1), nn.Parameter(torch.full((2,), -0.5))
        self.inputs, self.gain = torch.randn(500, 3), torch.randn(500)
        with torch.no_grad():
            self.old = Normal(self.network(self.inputs), self.log_std.exp())
            self.action = self.old.sample()
        self.parameters = [*self.network.parameters(), self.log_std]

    def surrogate(self) -> Tensor:
        new = Normal(self.network.train_on(self.inputs), self.log_std.exp(), validate_args=False)
        return (torch.exp((new.log_prob(self.action) - self.old.log_prob(self.action)).sum(-1)) * self.gain).mean()

    def divergence(self, exact: bool = False) -> Tensor:
        mean = (self.network if exact else self.network.train_on)(self.inputs)
        return kl_divergence(self.old, Normal(mean, self.log_std.exp(), validate_args=False)).sum(-1).mean()

    def values(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.parameters).detach().clone()


def test_curvature_from_differences_is_that_of_two_derivatives() -> None:
    policy = Policy()
    start = policy.values()
    vector = torch.randn_like(start)
    gradients = torch.autograd.grad(policy.divergence(exact=True), policy.parameters, create_graph=True)
    slope = torch.cat([g.reshape(-1) for g in gradients]) @ vector
    wanted = torch.cat([h.reshape(-1) for h in torch.autograd.grad(slope, policy.parameters)])
    got = curvature_product(policy.parameters, start, policy.divergence, vector)
    assert (got - wanted).norm() < 1e-3 * wanted.norm()


@pytest.mark.parametrize("bound", [0.001, 0.02])
def test_a_gaussian_policy_steps_to_the_bound(bound: float) -> None:
    """Its networks have one written-out derivative and no second."""
    policy = Policy()
    metrics = trust_region_step(policy.parameters, policy.surrogate, policy.divergence, TRPOSettings(max_kl=bound))
    assert metrics["accepted"] == 1 and metrics["backtracks"] <= 2 and metrics["improvement"] > 0
    assert 0.4 * bound < metrics["kl"] <= bound
    assert policy.divergence().item() == pytest.approx(metrics["kl"])


def test_the_line_search_shortens_a_step_that_overshoots() -> None:
    """Along x, x − 8 x² is greatest at 1/16 and lower than at the start from 1/8 on; the bound alone would allow 1."""
    parameter = nn.Parameter(torch.zeros(1))
    settings = TRPOSettings(max_kl=0.5, backtrack_ratio=0.5)
    metrics = trust_region_step(
        [parameter],
        lambda: (parameter - 8 * parameter**2).sum(),
        quadratic(parameter, torch.eye(1)),
        settings,
    )
    assert metrics["accepted"] == 1 and 3 <= metrics["backtracks"] <= 4
    assert 0 < parameter.item() < 1 / 8 + 1e-6


def test_a_step_that_never_improves_is_not_taken() -> None:
    parameter = nn.Parameter(torch.full((2,), 3.0))
    start = parameter.detach().clone()

    def lies() -> Tensor:  # grows in its gradient, falls in its value
        moved = parameter - start
        return moved.sum() - 2 * moved.detach().sum()

    settings = TRPOSettings(max_backtracks=4)
    metrics = trust_region_step([parameter], lies, quadratic(parameter, torch.eye(2)), settings)
    assert metrics == {"accepted": 0.0, "kl": 0.0, "improvement": 0.0, "backtracks": 4.0}
    assert torch.equal(parameter, start)


def faulty(policy: Policy, place: str) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Closures of which one gives NaN, at the start or wherever the policy has moved."""
    start = policy.values()

    def spoiled(value: Tensor, where: str) -> Tensor:
        moved = not torch.equal(policy.values(), start)
        return value * float("nan") if place == where or (place == f"moved {where}" and moved) else value

    return lambda: spoiled(policy.surrogate(), "surrogate"), lambda: spoiled(policy.divergence(), "divergence")


@pytest.mark.parametrize("place", ["surrogate", "divergence", "moved surrogate", "moved divergence"])
def test_nan_changes_nothing_and_is_reported(place: str) -> None:
    policy = Policy()
    before = policy.values()
    metrics = trust_region_step(policy.parameters, *faulty(policy, place), TRPOSettings())
    assert metrics["accepted"] == 0 and metrics["kl"] == 0 and metrics["improvement"] == 0
    assert torch.equal(policy.values(), before)


def test_a_surrogate_without_slope_changes_nothing() -> None:
    policy = Policy()
    before = policy.values()
    metrics = trust_region_step(policy.parameters, lambda: 0 * policy.surrogate(), policy.divergence, TRPOSettings())
    assert metrics["accepted"] == 0 and torch.equal(policy.values(), before)


def test_an_error_leaves_the_parameters_as_they_were() -> None:
    policy = Policy()
    before, calls = policy.values(), iter(range(3))

    def divergence() -> Tensor:
        next(calls)
        return policy.divergence()

    with pytest.raises(StopIteration):
        trust_region_step(policy.parameters, policy.surrogate, divergence, TRPOSettings())
    assert torch.equal(policy.values(), before)


def test_the_step_adapts_inside_as_maml_does() -> None:
    """θ is judged after one inner gradient step, so that the surrogate's gradient is second-order already."""
    torch.manual_seed(4)
    parameter, goal = nn.Parameter(torch.zeros(3)), torch.randn(3)

    def adapted() -> Tensor:
        loss = ((parameter - goal) ** 4).sum()
        (slope,) = torch.autograd.grad(loss, [parameter], create_graph=True)
        return parameter - 0.02 * slope

    old = adapted().detach()
    settings = TRPOSettings(max_kl=1e-5)
    metrics = trust_region_step(
        [parameter],
        lambda: -((adapted() - goal) ** 2).sum(),
        lambda: 0.5 * ((adapted() - old) ** 2).sum(),
        settings,
    )
    assert metrics["accepted"] == 1 and 0.5e-5 < metrics["kl"] <= 1e-5
    # The divergence counts distance after adapting: the best step there points straight at the goal.
    moved = adapted().detach() - old
    assert torch.cosine_similarity(moved, goal - old, dim=0) > 0.999
