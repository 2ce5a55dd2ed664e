// An OpenID Connect provider for the tests: client credentials, JWT access tokens for a resource, new keys at
// each start. Settings come as JSON in the first argument; it says "listening PORT" when it is ready.

import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'

import Provider from 'oidc-provider'

const { port, clients, audience, seconds } = JSON.parse(process.argv[2])

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
    clients: clients.map(({ id, secret }) => ({
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
    })),
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
      team: clients.find(({ id }) => id === token.clientId).team,
    }),
  })
  server.on('request', provider.callback())
  console.log(`listening ${own}`)
})
