"""`voicepool api`: serves the HTTP API, and makes tokens for it."""

import click

from admin.control import BadSettings


@click.group(invoke_without_command=True)
@click.option("--insecure-loopback", is_flag=True, help="Serve everybody on this host, without tokens.")
@click.pass_context
def api(context: click.Context, insecure_loopback: bool) -> None:
    """Serve the HTTP API on ADMIN_HOST and ADMIN_PORT, for the tokens in ADMIN_TOKENS_FILE."""
    if context.invoked_subcommand:
        return
    from admin.api import serve
    from admin.api.settings import AdminSettings
    from shared.errors import ConfigError
    from shared.settings import load

    try:
        serve.serve(load(AdminSettings), insecure_loopback=insecure_loopback)
    except ConfigError as error:
        raise BadSettings(str(error)) from error


@api.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["read", "operate"]), required=True, help="read: look; operate: act as well.")
def token(name: str, role: str) -> None:
    """Make a token: the line for ADMIN_TOKENS_FILE on stdout, the token itself, this once, on stderr.

    voicepool api token grafana --role read >> tokens
    """
    from admin.api import tokens

    try:
        secret, line = tokens.mint(name, tokens.Role(role))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    click.echo(line)
    click.echo(f"The token, which is kept nowhere: {secret}", err=True)
