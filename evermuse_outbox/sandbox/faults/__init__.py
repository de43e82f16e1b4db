"""Fault injection: failures that the sandbox produces for requests, by script or at random.

The package decides which request meets which fault. It must not process requests: the API applies the fault. Its
public interface is :class:`Fault`, :class:`FaultQueue`, :class:`ScriptedFault`, and the functions that read and write
faults as JSON and as text.
"""

from .fault import Fault, Method, RecordSelector
from .forms import FaultError, FaultRequest, fault_from_json, fault_from_text, fault_to_json, text_to_json
from .queue import FaultQueue, RequestContent, ScriptedFault

__all__ = [
    "Fault",
    "FaultError",
    "FaultQueue",
    "FaultRequest",
    "Method",
    "RecordSelector",
    "RequestContent",
    "ScriptedFault",
    "fault_from_json",
    "fault_from_text",
    "fault_to_json",
    "text_to_json",
]
