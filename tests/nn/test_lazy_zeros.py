import pytest
import torch

from shortlist.nn.lazy_zeros import lazy_zeros_like


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), ()])
def test_zeros_like(dtype, shape):
    zeros = lazy_zeros_like(torch.ones(shape, dtype=dtype))
    assert (zeros.dtype, tuple(zeros.shape)) == (dtype, shape)
    assert torch.equal(zeros, torch.zeros(shape, dtype=dtype))
    zeros += 1
    assert torch.equal(zeros, torch.ones(shape, dtype=dtype))


def test_gradients_are_taken_over_without_a_copy():
    class Zeros(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum()

        @staticmethod
        def backward(ctx, gradient):
            zeros = lazy_zeros_like(x)
            places.append(zeros.data_ptr())
            return zeros

    places, x = [], torch.ones(5, 4, requires_grad=True)
    Zeros.apply(x).backward()
    assert x.grad is not None
    assert x.grad.data_ptr() == places[0]
