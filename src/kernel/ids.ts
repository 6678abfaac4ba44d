import { customAlphabet } from 'nanoid'

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz'
const podSuffix = customAlphabet(ALPHABET, 10)

/** One boot of one pod: a restarted pod is a new pod. */
export const newPodId = (name: string) => `pod-${name}-${podSuffix()}`
