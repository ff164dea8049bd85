"""What the model is told of the tools that act on the call itself. The descriptions are instructions to it.

What the tools do is in `worker/voicelive/session.py`.
"""

from typing import Any

from shared.agents.model import Agent, CollectDigitsTool, HangUpTool, SendDtmfTool, TransferTool

BuiltIn = HangUpTool | TransferTool | SendDtmfTool | CollectDigitsTool

HANG_UP = (
    "Ends the telephone call; nothing can be said after it. Call it when the conversation is over: the caller has said "
    "goodbye or needs nothing more. If that is not certain, ask first. Do not call it because the caller is silent."
)
TRANSFER = (
    "Hands the caller over to somebody else; if that succeeds, your part of the call is over. Call it when the caller "
    "asks for it, or when one of the targets can help and you cannot. If it fails you are told so, and the caller is "
    "still with you."
)
SEND_DTMF = (
    "Presses telephone keys towards the other side, for example to choose in the menu of a machine that has answered, "
    "or to enter an extension. It is not for numbers the caller should hear: say those."
)
COLLECT_DIGITS = (
    "Waits for digits the caller types on the telephone's keys, and returns them. Tell the caller first what to type, "
    "and with which key to end. Use it for numbers that are easily misheard, such as customer or card numbers, and for "
    "everything secret. If the caller types nothing in time, you are told so."
)


def described(tool: BuiltIn, agent: Agent) -> tuple[str, dict[str, Any]]:
    """Returns the description and the parameters (JSON Schema) of a built-in tool of this agent."""
    if isinstance(tool, HangUpTool):
        return HANG_UP, _object(
            farewell=_text(
                "Words to say before hanging up, in the caller's language. Leave it out if you have said goodbye."
            )
        )
    if isinstance(tool, TransferTool):
        return TRANSFER, _object(
            "target",
            target={"type": "string", "enum": list(agent.transfers), "description": _targets(agent)},
            announcement=_text(
                "Words to say to the caller before the transfer, in their language. Leave it out if you have told them."
            ),
        )
    if isinstance(tool, SendDtmfTool):
        return SEND_DTMF, _object(
            "digits",
            digits={
                "type": "string",
                "pattern": "^[0-9A-D*#,]{1,32}$",
                "description": "The keys in order: 0 to 9, *, #, A to D; a comma is a pause of half a second.",
            },
        )
    return COLLECT_DIGITS, _object(
        "max_digits",
        max_digits={
            "type": "integer",
            "minimum": 1,
            "maximum": 32,
            "description": "Digits after which the entry is complete: their exact number, or the most there can be.",
        },
        terminator={
            "type": "string",
            "pattern": "^[0-9A-D*#]?$",
            "description": f"Key that ends the entry early; empty for none. {_default_key(agent)} if left out.",
        },
        timeout_s={
            "type": "number",
            "minimum": 1,
            "maximum": 60,
            "description": "Seconds to wait for the first digit, and for each one that follows.",
        },
        sensitive={
            "type": "boolean",
            "description": "True for card numbers, PINs and whatever else must stay secret: instead of the digits "
            "you get a placeholder like <digits-1>, which you may pass on as an argument of another tool. Never say it "
            "aloud.",
        },
    )


def _object(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": 500, "description": description}


def _targets(agent: Agent) -> str:
    described = [
        f"{name}: {target.description}" if target.description else name for name, target in agent.transfers.items()
    ]
    return "Who takes the caller over. " + "; ".join(described)


def _default_key(agent: Agent) -> str:
    return f'"{agent.dtmf.terminator}"' if agent.dtmf.terminator else "None"
