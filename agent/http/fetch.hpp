// SPDX-License-Identifier: Apache-2.0
// An HTTP client for straight-line code on a thread of its own: clients of registries. Everything has a limit in bytes
// and in time, and everything ends at once when a wake descriptor becomes readable. The only user of libcurl.
//
//   Fetcher fetcher({.credentials = {{.file = "/run/secrets/token"}}, .tls = {.ca_file = "/etc/registry/ca.pem"}});
//   auto response = fetcher.fetch({.url = "https://registry:8443/v1/all"}, feed.wake_fd());
//
// Several requests at a time (watches, blocking queries): begin() them, then run() until they finish. Redirects are
// answers like any other, proxies of the environment are ignored, connections are kept and reused. The process has to
// ignore SIGPIPE.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "http/message.hpp"

namespace mesh::http {

/// Something secret in a header of each request. A file is read again for each request, so that a new token counts at
/// once; space around it is removed.
struct Credential {
  std::string header = "Authorization";
  std::string prefix = "Bearer ";  ///< Before the value.
  std::string value;
  std::string file;  ///< Instead of `value`.
  bool operator==(const Credential&) const = default;
};

/// PEM, from a file that is read again for each request, or as text. A change of it means a new connection.
struct Pem {
  std::string file;
  std::string text;  ///< Instead of `file`.
  [[nodiscard]] bool empty() const { return file.empty() && text.empty(); }
  bool operator==(const Pem&) const = default;
};

/// TLS 1.2 or later.
struct FetchTls {
  Pem ca;                   ///< Trusted issuers; empty: the system's.
  Pem certificate;          ///< Of this client, then its chain; empty: none.
  Pem key;                  ///< Of the certificate, without passphrase.
  std::string server_name;  ///< To ask for and to verify; empty: the host of the URL.
  bool verify = true;       ///< Chain, name, expiry.
  bool operator==(const FetchTls&) const = default;
};

struct FetchSettings {
  std::vector<Credential> credentials;
  FetchTls tls;
  std::string unix_socket;  ///< Connect there, whatever host the URL names; empty: by the URL.
  std::string proxy;        ///< "http://proxy:3128"; empty: none.
  std::string user_agent = "meshd";
  std::chrono::milliseconds connect_timeout{5000};  ///< Name, TCP and TLS together.
  bool operator==(const FetchSettings&) const = default;
};

inline constexpr std::size_t kMaxFetchBody = 64u << 20;
inline constexpr std::size_t kMaxFetchErrorBody = 64u << 10;   ///< Kept of an answer that is no success.
inline constexpr std::size_t kMaxFetchHeaders = 64u << 10;     ///< Bytes of all headers together.
inline constexpr std::size_t kMaxCredentialBytes = 1u << 20;   ///< Of a token, certificate or CA file.
inline constexpr std::chrono::seconds kMaxRetryAfter{5 * 60};  ///< A server that asks for more is asked again then.

struct FetchRequest {
  std::string method = "GET";
  std::string url;  ///< "https://host:8443/path?query"; http and https only.
  Headers headers;
  std::string body;                              ///< Sent if not empty.
  std::chrono::milliseconds deadline{30000};     ///< Of the whole request; 0: none.
  std::chrono::milliseconds no_progress{15000};  ///< Longest time without a byte of the answer; 0: any.
  std::size_t body_limit = kMaxFetchBody;        ///< Of a success; 0: any, for streams.
  /// Take packed answers; what is counted and given is unpacked.
  bool gzip = false;
  /// Called when a success has begun: a stream is established, though nothing may come for long.
  std::function<void(const Headers& headers)> on_start;
  /// Gets the body of a success (2xx) in pieces as they come, instead of FetchResponse::body. An error ends the request
  /// and is its result.
  std::function<base::Result<void>(std::string_view piece)> on_body;
};

struct FetchResponse {
  unsigned status = 0;
  Headers headers;
  std::string body;  ///< Cut to kMaxFetchErrorBody unless the status is a success.
  std::optional<std::chrono::seconds> retry_after;

  [[nodiscard]] bool ok() const { return status >= 200 && status < 300; }
};

class Fetcher {
 public:
  using Id = std::uint64_t;
  struct Finished {
    Id id;
    /// Any status is a response; an error is a request without a whole answer: kTimeout after a deadline, kExhausted
    /// beyond a limit, kPermission without a credential that the server wants from TLS, kInvalid for an URL or file
    /// that can't be used, kUnavailable for the rest.
    base::Result<FetchResponse> result;
  };

  explicit Fetcher(FetchSettings settings);
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// One request to its end, while no other is active. kUnavailable if `wake_fd` (-1: none) becomes readable first: ask
  /// whether to stop.
  base::Result<FetchResponse> fetch(FetchRequest request, int wake_fd);

  /// Starts a request that run() drives. Fails when a file of a credential can't be read.
  base::Result<Id> begin(FetchRequest request);
  /// Until something finished or began or a piece of a body came, `timeout` is over, or `wake_fd` is readable.
  std::vector<Finished> run(std::chrono::milliseconds timeout, int wake_fd);
  /// Forgets a request; closes its connection.
  void cancel(Id id);
  [[nodiscard]] std::size_t active() const;

 private:
  struct Transfer;
  struct State;
  std::unique_ptr<State> state_;
};

/// Retry-After: seconds, or an HTTP date; at most `most`, nothing if it is neither.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view value, base::WallTime now,
                                                      std::chrono::seconds most = kMaxRetryAfter);

/// The error that an answer without success is: kPermission for 401 and 403, kNotFound for 404, kUnavailable for 429
/// and 5xx, else kInvalid. `what` was asked for: "list services of https://10.0.0.1:6443". The start of the body is
/// quoted.
base::Error status_error(const FetchResponse& response, std::string_view what);

/// For messages: without user, password and query.
std::string public_url(std::string_view url);

/// Percent-encoded for a path segment or a query value: everything but letters, digits and -._~
std::string url_encode(std::string_view text);

}  // namespace mesh::http
