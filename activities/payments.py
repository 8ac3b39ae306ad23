"""Activities over the payment service: authorise, capture, void, refund."""

from __future__ import annotations

from temporalio import activity

from activities.service_client import Body, ErrorBody, Service, step_body, url_path
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
from orders.text import Reference

DECLINED = "declined"


class Authorised(Body):
    """The amount is authorised, under the payment service's own reference."""

    reference: Reference


class Payments:
    """Activities over the payment service; each is idempotent by the key of its step."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @activity.defn
    async def authorise_payment(self, request: StepRequest) -> PaymentApproved | PaymentRefused:
        """Authorises an amount."""
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
        reply = await self._service.call(request, "POST", "/authorisations", body, {DECLINED})
        if reply.rejection_code:
            return PaymentRefused(step_id=step.step_id, reason=reply.read(ErrorBody).reason_text)
        return PaymentApproved(step_id=step.step_id, reference=reply.read(Authorised).reference)

    @activity.defn
    async def capture_payment(self, request: StepRequest) -> StepDone | PaymentRefused:
        """Captures part of an authorised amount."""
        step = request.step
        assert isinstance(step, Capture)
        path = url_path("authorisations", step.reference, "captures")
        body = step_body(request) | {"amount": step.amount}
        reply = await self._service.call(request, "POST", path, body, {DECLINED})
        if reply.rejection_code:
            return PaymentRefused(step_id=step.step_id, reason=reply.read(ErrorBody).reason_text)
        return StepDone(step_id=step.step_id)

    @activity.defn
    async def void_payment(self, request: StepRequest) -> StepDone:
        """Voids what is authorised and not captured."""
        step = request.step
        assert isinstance(step, Void)
        path = url_path("authorisations", step.reference, "void")
        await self._service.call(request, "POST", path, step_body(request))
        return StepDone(step_id=step.step_id)

    @activity.defn
    async def refund_payment(self, request: StepRequest) -> StepDone:
        """Refunds part of what was captured. A rejection leaves the step stuck: money is owed."""
        step = request.step
        assert isinstance(step, Refund)
        path = url_path("authorisations", step.reference, "refunds")
        await self._service.call(
            request, "POST", path, step_body(request) | {"amount": step.amount}
        )
        return StepDone(step_id=step.step_id)
