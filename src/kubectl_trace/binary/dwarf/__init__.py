"""DWARF: what a function's parameters and results are, and where they are when it begins.

Format: DWARF 5 (dwarfstd.org), 32 and 64 bit, of versions 2 to 5; what GNU, LLVM and Go add.
"""

from kubectl_trace.binary.dwarf.functions import Parameter, Subprogram
from kubectl_trace.binary.dwarf.info import DebugInfo, Inlined, InlinedPlace
from kubectl_trace.binary.dwarf.locations import Place

__all__ = ["DebugInfo", "Inlined", "InlinedPlace", "Parameter", "Place", "Subprogram"]
