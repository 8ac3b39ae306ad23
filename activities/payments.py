"""The order's side of the payment service: authorise, capture, void, refund."""

from __future__ import annotations

from temporalio import activity

from activities.service_client import Body, Refusal, Service, in_path
from orders.steps import (
    Authorise,
    Capture,
    Errand,
    PaymentApproved,
    PaymentRefused,
    Refund,
    StepDone,
    Void,
)

DECLINED = "declined"


class Authorised(Body):
    """The money is set aside, under the payment service's own name for it."""

    reference: str


class Payments:
    """Activities over the payment service; each may be repeated at will."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @activity.defn
    async def authorise_payment(self, errand: Errand) -> PaymentApproved | PaymentRefused:
        """Asks whether an amount may be taken."""
        step = errand.step
        assert isinstance(step, Authorise)
        body = {
            "order_id": errand.order_id,
            "authorisation_id": step.step_id,
            "customer_id": errand.customer_id,
            "amount": step.amount,
            "currency": errand.currency,
            "method": step.method,
        }
        reply = await self._service.ask(errand, "POST", "/authorisations", body, {DECLINED})
        if reply.refused:
            return PaymentRefused(step_id=step.step_id, reason=reply.read(Refusal).said)
        return PaymentApproved(step_id=step.step_id, reference=reply.read(Authorised).reference)

    @activity.defn
    async def capture_payment(self, errand: Errand) -> StepDone | PaymentRefused:
        """Takes some of what was authorised."""
        step = errand.step
        assert isinstance(step, Capture)
        path = in_path("authorisations", step.reference, "captures")
        body = _about(errand) | {"amount": step.amount}
        reply = await self._service.ask(errand, "POST", path, body, {DECLINED})
        if reply.refused:
            return PaymentRefused(step_id=step.step_id, reason=reply.read(Refusal).said)
        return StepDone(step_id=step.step_id)

    @activity.defn
    async def void_payment(self, errand: Errand) -> StepDone:
        """Gives up what is authorised and was not captured."""
        step = errand.step
        assert isinstance(step, Void)
        path = in_path("authorisations", step.reference, "void")
        await self._service.ask(errand, "POST", path, _about(errand))
        return StepDone(step_id=step.step_id)

    @activity.defn
    async def refund_payment(self, errand: Errand) -> StepDone:
        """Gives back some of what was captured; a refusal is for a person, as money is owed."""
        step = errand.step
        assert isinstance(step, Refund)
        path = in_path("authorisations", step.reference, "refunds")
        await self._service.ask(errand, "POST", path, _about(errand) | {"amount": step.amount})
        return StepDone(step_id=step.step_id)


def _about(errand: Errand) -> dict[str, str | int]:
    return {"order_id": errand.order_id, "step_id": errand.step.step_id}
