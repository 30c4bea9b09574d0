import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** How a delivery was answered. */
export type Result =
  | 'accepted'
  | 'ignored'
  | 'unrecorded'
  | 'too-large'
  | 'bad-signature'
  | 'unsupported-type'
  | 'malformed'
  | 'broken-off'
  | 'error';

/** The webhook's numbers, in a registry of its own so that several webhooks can live in one process. */
export function webhookMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    deliveries: new Counter({
      name: 'tekton_webhook_deliveries_total',
      help: 'Webhook deliveries by how they were answered',
      labelNames: ['result'] as const,
      registers,
    }),
    signatureFailures: new Counter({
      name: 'tekton_webhook_signature_failures_total',
      help: 'Deliveries without a good signature',
      registers,
    }),
    recording: new Histogram({
      name: 'tekton_webhook_recording_seconds',
      help: 'Time until Temporal had recorded a delivery, or the attempt was given up',
      labelNames: ['outcome'] as const,
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    }),
    ready: new Gauge({
      name: 'tekton_webhook_temporal_ready',
      help: '1 when Temporal was last seen reachable and set up',
      registers,
    }),
  };
}

export type WebhookMetrics = ReturnType<typeof webhookMetrics>;
