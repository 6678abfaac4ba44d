import { readFileSync } from 'node:fs'
import { checkServerIdentity, type ConnectionOptions } from 'node:tls'
import type postgres from 'postgres'
import { FleetError } from '../errors.ts'
import { sqlState } from './failure.ts'

/** An address as the driver takes it, where that leads, and who must be at its other end. */
export interface Way {
  url: string
  hosts: string[]
  ssl: ConnectionOptions | false
  /** Said to the driver: what it reads out of an odd address, or takes from PGHOST, need not be what was judged here. */
  place: Pick<postgres.Options<Record<string, postgres.PostgresType>>, 'host' | 'port' | 'path'>
}

/**
 * Postgres on this machine is spoken to as it is; any other one has to prove who it is. sslmode=disable and
 * sslmode=no-verify are the words of somebody who knows better. The driver on its own (postgres.js 3.4.9) speaks plain
 * text where nothing is said, takes any certificate for sslmode=require, and holds one that names an address by number
 * against "localhost".
 */
export function wayTo(url: string): Way {
  const mark = url.indexOf('?')
  const query = new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1))
  const take = (name: string) => {
    const value = query.get(name) ?? undefined
    query.delete(name)
    return value
  }
  const places = placesOf(url)
  const hosts = places.map(({ host }) => host)
  const mode = take('sslmode') ?? take('ssl') ?? (hosts.every(isThisMachine) ? 'disable' : 'verify-full')
  const files = { ca: take('sslrootcert'), cert: take('sslcert'), key: take('sslkey') }
  const rest = query.toString()
  const way = {
    url: (mark === -1 ? url : url.slice(0, mark)) + (rest === '' ? '' : `?${rest}`),
    hosts,
    place: placeForDriver(places),
  }
  if (mode === 'disable') return { ...way, ssl: false }
  if (!MODES.includes(mode))
    throw new FleetError(
      'config_invalid',
      `DATABASE_URL: sslmode=${mode} is none of ${MODES.join(', ')}, disable. Where nothing is said, a Postgres that ` +
        'is not on this machine has to show a certificate for its name.',
    )
  return {
    ...way,
    ssl: {
      ...(files.ca !== undefined && files.ca !== 'system' && { ca: read('sslrootcert', files.ca) }),
      ...(files.cert !== undefined && { cert: read('sslcert', files.cert) }),
      ...(files.key !== undefined && { key: read('sslkey', files.key) }),
      rejectUnauthorized: mode !== 'no-verify',
      checkServerIdentity(_, certificate) {
        const wrong = hosts.map((name) => checkServerIdentity(name, certificate))
        return wrong.some((each) => each === undefined) ? undefined : wrong[0]
      },
    },
  }
}

/** `require` is what many a provider writes; a wire that anybody may answer is no use, so it is verified as well. */
const MODES = ['verify-full', 'verify-ca', 'require', 'no-verify']

/** Whether somebody has said that nobody need look who is at the other end. */
export const isUnverified = (url: string): boolean => {
  const { hosts, ssl } = wayTo(url)
  return !hosts.every(isThisMachine) && (ssl === false || ssl.rejectUnauthorized === false)
}

const POSTGRES_PORT = 5432

interface Place {
  host: string
  port: number
}

/** Several hosts are a list to the driver, which its types do not know; one that it were to split at its colons, too. */
function placeForDriver(places: Place[]): Way['place'] {
  const [first] = places
  const list = { host: places.map(({ host }) => host), port: places.map(({ port }) => port) }
  return {
    ...(list as unknown as { host: string; port: number }),
    ...(first?.host.startsWith('/') && { path: `${first.host}/.s.PGSQL.${first.port}` }),
  }
}

/** Between the last @ and the path: an address may name several hosts, by name, number or folder. */
function placesOf(url: string): Place[] {
  const [, hosts = ''] = /^\w+:\/\/(?:[^/?#]*@)?([^/?#]*)/.exec(url) ?? []
  return hosts.split(',').map((place) => {
    const [, host = '', port = ''] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(place) ?? []
    return {
      host: decodeURIComponent(host).replace(/^\[(.*)\]$/, '$1') || 'localhost',
      port: port === '' ? POSTGRES_PORT : Number(port),
    }
  })
}

const isThisMachine = (host: string) =>
  host === 'localhost' ||
  host === '::1' ||
  host.startsWith('/') ||
  /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)

function read(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new FleetError(
      'config_invalid',
      `DATABASE_URL: ${name}=${file} cannot be read (${(error as NodeJS.ErrnoException).code}). Name a PEM file that this user may read.`,
      { cause: error },
    )
  }
}

/** OpenSSL's words for a certificate, as Node hands them on. */
export const isUntrusted = (error: unknown): boolean =>
  /CERT|SIGNATURE|CRL|HOSTNAME_MISMATCH|INVALID_CA/.test(sqlState(error) ?? '')

/** The server has said no to TLS, and has then taken our greeting for nonsense. */
export const isPlain = (error: unknown): boolean =>
  error instanceof Error && error.message.includes('before secure TLS connection was established')
