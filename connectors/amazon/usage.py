"""Amazon's default usage plans: where every budget starts, until a rate header corrects the rate.

Source: the usage-plan tables of Amazon's Orders API model 2026-01-01 and Sellers API model v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from connectors.base import Operation, UsagePlan

PLANS: Mapping[Operation, UsagePlan] = MappingProxyType(
    {
        "searchOrders": UsagePlan(rate=0.0056, burst=20),
        "getOrder": UsagePlan(rate=0.5, burst=30),
        "getMarketplaceParticipations": UsagePlan(rate=0.016, burst=15),
    }
)
