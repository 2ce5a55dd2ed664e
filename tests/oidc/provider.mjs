// An OpenID Connect provider for the tests: client credentials, JWT access tokens for a resource, new keys at
// each start; and, where there is a console, people who sign in to it with a password. Settings come as JSON in
// the first argument; it says "listening PORT" when it is ready.

import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'

import Provider from 'oidc-provider'

const { port, clients, audience, seconds, console: web, people } = JSON.parse(process.argv[2])

const claims = [...new Set(Object.values(people ?? {}).flatMap(Object.keys))].filter((one) => one !== 'password')

const jwk = (kind, options, alg) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }),
  kid: randomBytes(6).toString('hex'),
  use: 'sig',
  alg,
})

const server = createServer()
server.listen(port, '127.0.0.1', () => {
  const { port: own } = server.address()
  const provider = new Provider(`http://127.0.0.1:${own}`, {
    jwks: {
      keys: [
        jwk('rsa', { modulusLength: 2048 }, 'RS256'),
        jwk('ec', { namedCurve: 'P-256' }, 'ES256'),
      ],
    },
    clients: [
      ...clients.map(({ id, secret }) => ({
        client_id: id,
        client_secret: secret,
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
      })),
      ...(web ? [{
        client_id: web.id,
        ...(web.secret ? { client_secret: web.secret } : { token_endpoint_auth_method: 'none' }),
        grant_types: ['authorization_code'],
        response_types: ['code'],
        redirect_uris: [web.callback],
      }] : []),
    ],
    acrValues: ['strong'],
    claims: { acr: null, amr: null, auth_time: null, openid: ['sub', ...claims] },
    conformIdTokenClaims: false,
    ttl: { AccessToken: 600, Grant: 3600, IdToken: 600, Interaction: 600, Session: 3600 },
    interactions: { url: (ctx, { uid }) => `/interaction/${uid}` },
    findAccount: (ctx, id) => people?.[id] && {
      accountId: id,
      claims: () => ({ sub: id, ...people[id], password: undefined }),
    },
    loadExistingGrant: async ({ oidc: { client, session } }) => {
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
      grant.addOIDCScope('openid')
      await grant.save()
      return grant
    },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'read',
          audience: resource === 'urn:other' ? 'other' : audience,
          accessTokenTTL: seconds,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: resource === 'urn:rsa' ? 'RS256' : 'ES256' } },
        }),
      },
    },
    extraTokenClaims: (ctx, token) => ({
      team: clients.find(({ id }) => id === token.clientId)?.team,
    }),
  })
  const own_pages = provider.callback()
  server.on('request', (asked, answer) => {
    if (asked.url.startsWith('/interaction/')) interact(provider, asked, answer)
    else own_pages(asked, answer)
  })
  console.log(`listening ${own}`)
})

const FORM = `<!doctype html><html lang="en"><title>Who are you?</title><form method="post">
<label>Name <input name="name" autofocus></label> <label>Password <input name="password" type="password"></label>
<button>Sign in</button></form></html>`

// Signing in is a form with a name and a password; whoever is asked for more has it.
async function interact(provider, asked, answer) {
  const { params, prompt } = await provider.interactionDetails(asked, answer)
  if (asked.method !== 'POST') {
    answer.setHeader('content-type', 'text/html')
    answer.end(FORM)
    return
  }
  let body = ''
  for await (const part of asked) body += part
  const sent = new URLSearchParams(body)
  const person = people[sent.get('name')]
  if (prompt.name !== 'login' || person?.password !== sent.get('password')) {
    await provider.interactionFinished(asked, answer, { error: 'access_denied' })
    return
  }
  const login = { accountId: sent.get('name'), amr: ['pwd'] }
  if (params.acr_values === 'strong') Object.assign(login, { acr: 'strong', amr: ['pwd', 'otp'] })
  await provider.interactionFinished(asked, answer, { login })
}
