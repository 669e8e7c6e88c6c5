"""Calls of TensorFlow's graphs, recorded in one process and repeated in another: for tests of what computes the same bits.

A processor decides how a graph is computed. Which graph Keras makes of a network is plain Python, for which an emulator
needs ten times as long as the processor itself. A repeated call goes the way of any other: to the function of this
name, with the options that `compute.set_up` has left in this process. So the graph is optimised and computed anew.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.python.eager import context
from tensorflow.python.ops.gen_resource_variable_ops import read_variable_op

Results = tuple[list[np.ndarray], list[np.ndarray]]  # of all calls, and the variables behind the last one


@dataclass
class Tape:
    """What was called, and all that it used; it can be pickled."""

    functions: dict[str, bytes] = field(default_factory=dict)  # name: serialised FunctionDef
    variables: list[np.ndarray] = field(default_factory=list)  # before the first call with them
    calls: list[tuple[bytes, list[np.ndarray | int], int]] = field(default_factory=list)
    """Name, inputs (an array, or the number of a variable), how many outputs."""

    def keep(self, name: str) -> None:
        """Add the definition of a function, and of those that it calls."""
        if name in self.functions:
            return
        definition = context.get_function_def(name)
        self.functions[name] = definition.SerializeToString(deterministic=True)
        for node in definition.node_def:
            for attribute in node.attr.values():
                for called in (attribute.func, *attribute.list.func):
                    if called.name:
                        self.keep(called.name)


def record(compute: Callable[[], object]) -> tuple[Tape, Results]:
    """Call `compute` and note the graphs that it calls."""
    tape, outputs, handles = Tape(), [], []
    eager, call = context.context(), context.context().call_function

    def noted(name: bytes, inputs: list[tf.Tensor], count: int) -> list[tf.Tensor] | None:
        tape.keep(name.decode())
        tape.calls.append(
            (name, [variable(each) if each.dtype == tf.resource else each.numpy() for each in inputs], count)
        )
        returned = call(name, inputs, count)
        outputs.extend(each.numpy() for each in returned or [])
        return returned

    def variable(handle: tf.Tensor) -> int:
        for number, known in enumerate(handles):
            if known is handle:
                return number
        handles.append(handle)
        tape.variables.append(value(handle))
        return len(handles) - 1

    eager.call_function = noted
    try:
        compute()
    finally:
        del eager.call_function
    return tape, (outputs, list(map(value, handles)))


def value(handle: tf.Tensor) -> np.ndarray:
    """What is in the variable."""
    return read_variable_op(handle, handle._handle_data.shape_and_type[0].dtype).numpy()


def repeat(tape: Tape) -> Results:
    """Do the same calls again, from the same variables."""
    eager = context.context()
    for definition in tape.functions.values():
        eager.add_function_def(FunctionDef.FromString(definition))
    variables, outputs = list(map(tf.Variable, tape.variables)), []
    for name, inputs, count in tape.calls:
        tensors = [variables[each].handle if isinstance(each, int) else tf.constant(each) for each in inputs]
        outputs.extend(each.numpy() for each in eager.call_function(name, tensors, count) or [])
    return outputs, [each.numpy() for each in variables]
