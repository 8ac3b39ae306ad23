"""The order's side of the payment service: authorise, capture, void, refund."""

from __future__ import annotations

from temporalio import activity

from activities.service_client import Body, Rejection, Service, in_path
from orders.steps import (
    Authorise,
    Capture,
    PaymentApproved,
    PaymentRefused,
    Refund,
    StepDone,
    StepRequest,
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
    async def authorise_payment(self, request: StepRequest) -> PaymentApproved | PaymentRefused:
        """Asks whether an amount may be taken."""
        step = request.step
        assert isinstance(step, Authorise)
        body = {
            "order_id": request.order_id,
            "authorisation_id": step.step_id,
            "customer_id": request.customer_id,
            "amount": step.amount,
            "currency": request.currency,
            "method": step.method,
        }
        reply = await self._service.ask(request, "POST", "/authorisations", body, {DECLINED})
        if reply.refused:
            return PaymentRefused(step_id=step.step_id, reason=reply.read(Rejection).said)
        return PaymentApproved(step_id=step.step_id, reference=reply.read(Authorised).reference)

    @activity.defn
    async def capture_payment(self, request: StepRequest) -> StepDone | PaymentRefused:
        """Takes some of what was authorised."""
        step = request.step
        assert isinstance(step, Capture)
        path = in_path("authorisations", step.reference, "captures")
        body = _about(request) | {"amount": step.amount}
        reply = await self._service.ask(request, "POST", path, body, {DECLINED})
        if reply.refused:
            return PaymentRefused(step_id=step.step_id, reason=reply.read(Rejection).said)
        return StepDone(step_id=step.step_id)

    @activity.defn
    async def void_payment(self, request: StepRequest) -> StepDone:
        """Gives up what is authorised and was not captured."""
        step = request.step
        assert isinstance(step, Void)
        path = in_path("authorisations", step.reference, "void")
        await self._service.ask(request, "POST", path, _about(request))
        return StepDone(step_id=step.step_id)

    @activity.defn
    async def refund_payment(self, request: StepRequest) -> StepDone:
        """Gives back some of what was captured; a refusal is for a person, as money is owed."""
        step = request.step
        assert isinstance(step, Refund)
        path = in_path("authorisations", step.reference, "refunds")
        await self._service.ask(request, "POST", path, _about(request) | {"amount": step.amount})
        return StepDone(step_id=step.step_id)


def _about(request: StepRequest) -> dict[str, str | int]:
    return {"order_id": request.order_id, "step_id": request.step.step_id}
