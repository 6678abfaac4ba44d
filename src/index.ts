/** The library: what a service needs to define steps and to be a pod. Frozen by test/library/public-surface.test.ts. */
export { FleetError, type ErrorCode, type Issue } from './errors.ts'
export { createPod, type PodSettings } from './fleet/create-pod.ts'
export { runPod } from './fleet/run-pod.ts'
export type { Pod } from './fleet/start-pod.ts'
export {
  ChildFailed,
  EventTimeout,
  RunFailed,
  type Child,
  type Children,
  type ChildWish,
  type Duration,
  type RunContext,
  type RunOptions,
  type WaitOptions,
} from './step/durable.ts'
export {
  cancel,
  defineStep,
  NonRetryableError,
  retry,
  snooze,
  type StepContext,
  type StepDefinition,
  type StepLog,
  type StepOptions,
} from './step/handler.ts'
