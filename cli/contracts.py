"""Commands for those who write an external service: `check-contract` and `trigger`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.info_file import DEFAULT, InfoFile, use_running_stack
from cli.operations import EXIT_NOT_COMPARED
from runtime import EXIT_FAILED, EXIT_USAGE, fail, load_settings, run

PANEL = "Your own payment, stock and shipping services"

app = typer.Typer()


@app.command("check-contract", rich_help_panel=PANEL)
def check_contract(
    service: Annotated[str, typer.Argument(help="payments, stock or shipping.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Its URL, in a test environment.")],
    method: Annotated[str, typer.Option(help="A payment method that it approves.")] = "pm_card",
    declined_method: Annotated[str, typer.Option(help="One that it declines.")] = "pm_declined",
    sku: Annotated[str, typer.Option(help="A SKU of which it has ten pieces or more.")] = "MILK",
    missing_sku: Annotated[str, typer.Option(help="A SKU that is out of stock.")] = "GONE-1",
    location: Annotated[str, typer.Option(help="A stock location.")] = "EAST",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each response.")] = 5.0,
) -> None:
    """Play the contract against a service of your own, and say what it does wrong; 1 if anything.

    The exit code is 2 if the service cannot be reached. It moves money and stock: use a test
    environment. ORDERLY_PAYMENTS_TOKEN and so on are sent as the worker sends them.
    """
    from activities.credentials import credentials_for, tls
    from dev.contract_check import Examples, Unreachable, check
    from dev.contract_check.checker import CHECKS
    from settings import ServiceSettings, from_environment

    if service not in CHECKS:
        fail(f"There is no service {service}; there are: {', '.join(CHECKS)}.", EXIT_USAGE)
    if not url.startswith(("http://", "https://")):
        fail(f"The URL must be one such as https://{service}.internal, not {url!r}.", EXIT_USAGE)
    settings = load_settings(lambda: from_environment(ServiceSettings))
    context = load_settings(lambda: tls(settings))
    credentials = credentials_for(settings, service)
    examples = Examples(method, declined_method, sku, missing_sku, location)

    async def play() -> int:
        found = []
        async for finding in check(service, url, timeout, examples, credentials, context):
            print(finding, flush=True)
            found.append(finding)
        faults = sum(finding.fault is not None for finding in found)
        print(f"{len(found) - faults} of {len(found)} rules of the contract are kept.")
        return EXIT_FAILED if faults else 0

    run(play(), {Unreachable: EXIT_NOT_COMPARED})


@app.command(rich_help_panel=PANEL)
def trigger(
    event: Annotated[str | None, typer.Argument(help="The event; without it, all are listed.")] = (
        None
    ),
    order_id: Annotated[str | None, typer.Argument(metavar="ORDER", help="The order id.")] = None,
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="The fields of the event.")
    ] = None,
    info_file: InfoFile = DEFAULT,
) -> None:
    """Send a callback as a service would, signed, to the running stack or ORDERLY_CALLBACK_URL."""
    from cli.trigger import NotSendable, NotTaken, body_of, lines, send
    from settings import SimulatorSettings, from_environment

    if event is None:
        print("\n".join(lines()))
        return
    if order_id is None:
        fail(f"Name the order: `orderly trigger {event} ORDER`.", EXIT_USAGE)
    try:
        service, data = body_of(event, order_id, fields or [])
    except NotSendable as error:
        fail(error, EXIT_USAGE)
    use_running_stack(info_file)
    settings = load_settings(lambda: from_environment(SimulatorSettings))
    if settings.callback_url is None or settings.webhook_secret is None:
        fail(
            "Start a stack with `make up`, or set ORDERLY_CALLBACK_URL and ORDERLY_WEBHOOK_SECRET.",
            EXIT_USAGE,
        )
    url, secret = settings.callback_url, settings.webhook_secret

    async def post() -> None:
        print(await send(url, secret, service, event, data))

    run(post(), {NotTaken: EXIT_FAILED})
