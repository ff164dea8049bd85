"""An agent file that explains itself, for `voicepool agents sample`. It is data, and knows nothing of what reads it."""

SAMPLE = """\
# Agents of voicepool: who answers which call. Every key: docs/agents.md
# Check it with: voicepool agents check agents.yaml
# yaml-language-server: $schema=agents.schema.json

# Voice Live resources by name. An agent without `resource` uses that of AZURE_VOICELIVE_ENDPOINT.
resources:
  sweden:
    endpoint: https://my-resource.services.ai.azure.com
    # The key is in the environment or in a file of that name in SECRETS_DIR. Without api_key, Microsoft Entra signs in.
    api_key: {secret: SWEDEN_KEY}
    # What the pool may use of it, all workers together. Callers wait, ringing, for what is used up.
    quota: {connections_per_minute: 60, sessions: 40}

# What a million tokens cost, by model; "*" is any other. Makes the cost in call records.
currency: USD
prices:
  gpt-4.1-mini:
    {input_text: 0.66, input_audio: 15, cached_text: 0.33, cached_audio: 0.33, output_text: 2.64, output_audio: 26}

# Where callers can be transferred to: a URI, or a URI with what the model is told of it.
transfers:
  desk: {uri: "sip:desk@pbx.example", description: "The front desk. Takes everything."}
  accounts: {uri: "tel:+4930123460", description: "Accounts: invoices and payments. Weekdays 9 to 17 h."}

# What all agents have in common. Below these lie the settings VOICE_LIVE_*.
defaults:
  timezone: Europe/Berlin
  voice: en-US-AvaNeural
  transcription: {phrase_list: [Contoso, VoicePool]}
  limits: {max_call_s: 1800, warning_s: 60}
  fallback:
    say: "We have a technical problem. I will put you through to the front desk."
    transfer: desk

agents:
  # The least an agent can be: all of it comes from the defaults and the settings.
  plain:

  reception:
    instructions: |
      You are the receptionist of Contoso. Be friendly and brief. It is {{ time.strftime("%A, %H:%M") }}.
      {% if headers["X-Customer"] %}
      The telephone system says that the caller is customer {{ headers["X-Customer"] }}. Ask before you rely on it.
      {% endif %}
      Transfer the caller when they ask for somebody, and hang up when they have said goodbye.
    greeting: {text: "Contoso, good {{ 'morning' if time.hour < 12 else 'day' }}. How can I help you?"}
    resource: [sweden, ""]  # in order of preference; "" is that of the settings
    # labels: {region: westeurope}  # only workers with WORKER_LABELS=region=westeurope get its calls
    priority: 7  # of 0 to 9: before the others when callers wait
    model: gpt-4.1-mini
    turn_detection:
      type: azure_semantic_vad_multilingual
      remove_filler_words: true
      end_of_utterance_detection: {model: semantic_detection_v1_multilingual}
    interim_response: {type: static, texts: ["One moment, please."], triggers: [tool]}
    tools:
      - hang_up
      - transfer_call
      - collect_digits
      - type: http_request
        name: order_status
        description: Looks up where an order is. Ask for the order number first.
        url: https://orders.example/v1/orders/{number}
        headers: {Authorization: {secret: ORDERS_TOKEN}}
        parameters:
          type: object
          properties:
            number: {type: string, description: "The order number: eight digits."}
          required: [number]
    dtmf:
      menu:
        0: {transfer: desk}
        "#": {hang_up: true}

  # Speech to speech; a German one.
  berater:
    model: gpt-realtime
    voice: marin
    language: de
    instructions: Du beantwortest das Telefon von Contoso. Sprich Deutsch und fasse dich kurz.
    greeting: Contoso, guten Tag. Was kann ich für Sie tun?
    goodbye: Auf Wiederhören.
    turn_detection: {type: semantic_vad, eagerness: high}
    transcription: {model: gpt-4o-mini-transcribe, language: de, phrase_list: []}
    silence: {prompt: "Sind Sie noch da?", goodbye: "Ich höre Sie nicht und lege jetzt auf. Auf Wiederhören."}
    limits: {warning: "Wir haben noch eine Minute.", goodbye: "Unsere Zeit ist um. Auf Wiederhören."}
    keep: {transcript: false, numbers: false}

  # An agent of Azure AI Foundry: instructions, model and tools are set there. Microsoft Entra only, no API key.
  # assistant:
  #   foundry_agent: {name: helpdesk, project: telephony}
  #   greeting: Hello, this is the help desk.

# Who answers which call: the first route of which everything is true. * is any text, ? any one character.
routes:
  - {called: ["+4930123450", "4930123450"], agent: reception}
  - {called: "*", caller: "+49*", header: {X-Language: "de*"}, agent: berater}
  - {trunk: [192.0.2.0/24, 2001:db8::/32], agent: reception}

# Who answers the rest.
default: plain
"""
