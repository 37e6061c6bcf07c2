// SPDX-License-Identifier: Apache-2.0
#include "http/fetch.hpp"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "base/fd.hpp"

namespace mesh::http {
namespace {

using base::ErrorKind;
using std::chrono::milliseconds;

constexpr std::size_t kMaxQuotedBody = 200;
constexpr long kKeepaliveSeconds = 30;
constexpr long kSystemStoreSeconds = 300;  // how long libcurl may keep the parsed system store

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

/// A socket that children of the agent don't inherit.
curl_socket_t open_socket(void*, curlsocktype, curl_sockaddr* address) {
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

base::Result<std::string> text_of(const Pem& pem) {
  if (!pem.text.empty() || pem.file.empty()) return pem.text;
  return base::read_file(pem.file, kMaxCredentialBytes);
}

/// What kind of trouble libcurl names, and what the reader can do.
std::pair<ErrorKind, std::string> meaning(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return {ErrorKind::kTimeout, ""};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return {ErrorKind::kInvalid, "the server must speak HTTP/1, and the URL be http:// or https://"};
    case CURLE_SSL_CERTPROBLEM:
      return {ErrorKind::kInvalid, "check the client certificate and its key"};
    case CURLE_SSL_CACERT_BADFILE:
      return {ErrorKind::kInvalid, "check the file of trusted issuers"};
    case CURLE_PEER_FAILED_VERIFICATION:
      return {ErrorKind::kUnavailable, "check the server's certificate, its name, and the trusted issuers"};
    case CURLE_COULDNT_RESOLVE_HOST:
      return {ErrorKind::kUnavailable, "check the name, and the resolver of this host"};
    default:
      return {ErrorKind::kUnavailable, ""};
  }
}

/// Splits "https://user@host:port/rest" to "https://", "host:port" and "/rest".
struct UrlParts {
  std::string_view scheme;
  std::string_view authority;
  std::string_view rest;
};
UrlParts split(std::string_view url) {
  const auto scheme_end = url.find("://");
  if (scheme_end == std::string_view::npos) return {{}, {}, url};
  UrlParts parts{.scheme = url.substr(0, scheme_end + 3)};
  const std::string_view after = url.substr(scheme_end + 3);
  const auto end = std::min(after.find_first_of("/?#"), after.size());
  parts.authority = after.substr(0, end);
  parts.rest = after.substr(end);
  if (const auto at = parts.authority.rfind('@'); at != std::string_view::npos) parts.authority.remove_prefix(at + 1);
  return parts;
}

}  // namespace

struct Fetcher::Transfer {
  Id id;
  FetchRequest request;
  CURL* easy;
  curl_slist* header_list = nullptr;
  curl_slist* connect_to = nullptr;
  base::TimePoint last_byte;
  bool* activity;
  FetchResponse response{};
  std::size_t received = 0;
  std::size_t header_bytes = 0;
  std::optional<base::Error> refused{};  // why a callback ended it
  char message[CURL_ERROR_SIZE] = "";

  [[nodiscard]] std::string what() const { return request.method + " " + public_url(request.url); }
  ~Transfer() {
    curl_easy_cleanup(easy);
    curl_slist_free_all(header_list);
    curl_slist_free_all(connect_to);
  }

  [[nodiscard]] bool is_success() const {
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
  }

  std::size_t take_header(std::string_view line) {
    last_byte = base::steady_now();
    header_bytes += line.size();
    if (header_bytes > kMaxFetchHeaders) {
      refused = base::Error{ErrorKind::kExhausted,
                            what() + ": headers of more than " + std::to_string(kMaxFetchHeaders) + " bytes",
                            {},
                            0};
      return 0;
    }
    if (line.starts_with("HTTP/")) {  // another one follows a 1xx
      response.headers.clear();
    } else if (const auto colon = line.find(':'); colon != std::string_view::npos) {
      response.headers.emplace_back(line.substr(0, colon), trim(line.substr(colon + 1)));
    } else if (is_success() && request.on_start) {  // the empty line
      *activity = true;
      request.on_start(response.headers);
    }
    return line.size();
  }

  std::size_t take_body(std::string_view piece) {
    last_byte = base::steady_now();
    *activity = true;
    if (!is_success()) {
      response.body.append(piece.substr(0, kMaxFetchErrorBody - std::min(kMaxFetchErrorBody, response.body.size())));
      received += piece.size();
      return received > kMaxFetchBody ? 0 : piece.size();
    }
    received += piece.size();
    if (request.body_limit != 0 && received > request.body_limit) {
      refused = base::Error{ErrorKind::kExhausted,
                            what() + ": an answer of more than " + std::to_string(request.body_limit) + " bytes",
                            {},
                            0};
      return 0;
    }
    if (!request.on_body) {
      response.body.append(piece);
      return piece.size();
    }
    auto taken = request.on_body(piece);
    if (taken) return piece.size();
    refused = std::move(taken).error();
    return 0;
  }

  base::Result<FetchResponse> result(CURLcode code) {
    if (refused) return std::unexpected(std::move(*refused));
    if (code != CURLE_OK) {
      const auto [kind, remedy] = meaning(code);
      return base::fail(kind, what() + ": " + (message[0] != '\0' ? message : curl_easy_strerror(code)), remedy);
    }
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    response.status = static_cast<unsigned>(status);
    if (const std::string* value = find_header(response.headers, "Retry-After")) {
      response.retry_after = parse_retry_after(*value, base::wall_now());
    }
    return std::move(response);
  }
};

struct Fetcher::State {
  FetchSettings settings;
  CURLM* multi;
  std::map<Id, std::unique_ptr<Transfer>> transfers{};
  Id next_id = 1;
  bool activity = false;  ///< An answer began or went on in the last run().
  bool woken = false;     ///< The wake descriptor ended the last run().

  base::Result<void> prepare(Transfer& transfer);
  std::unique_ptr<Transfer> take(Id id);
  void collect(std::vector<Finished>& finished);
  void end_idle(base::TimePoint now, std::vector<Finished>& finished);
  [[nodiscard]] milliseconds time_left(base::TimePoint now, milliseconds timeout) const;
};

namespace {

base::Result<void> set_pem(CURL* easy, CURLoption option, const Pem& pem) {
  if (pem.empty()) return {};
  const std::string text = MESH_TRY(text_of(pem));
  curl_blob blob{.data = const_cast<char*>(text.data()), .len = text.size(), .flags = CURL_BLOB_COPY};
  curl_easy_setopt(easy, option, &blob);
  return {};
}

}  // namespace

base::Result<void> Fetcher::State::prepare(Transfer& transfer) {
  CURL* const easy = transfer.easy;
  const FetchRequest& request = transfer.request;
  const FetchTls& tls = settings.tls;
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.message);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // never wait for a resolver thread
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepaliveSeconds);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepaliveSeconds / 3);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(settings.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.deadline.count()));
  curl_easy_setopt(easy, CURLOPT_PROXY, settings.proxy.c_str());  // "" is: none, not even of the environment
  curl_easy_setopt(easy, CURLOPT_USERAGENT, settings.user_agent.c_str());
  if (!settings.unix_socket.empty()) {
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, settings.unix_socket.c_str());
  }
  const auto write = [](char* data, std::size_t size, std::size_t count, void* to) {
    return static_cast<Transfer*>(to)->take_body({data, size * count});
  };
  const auto write_header = [](char* data, std::size_t size, std::size_t count, void* to) {
    return static_cast<Transfer*>(to)->take_header({data, size * count});
  };
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, +write);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, +write_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);

  const auto add_header = [&transfer](const std::string& name, const std::string& value) -> base::Result<void> {
    if ((name + value).find_first_of("\r\n") != std::string::npos) {
      return base::fail(ErrorKind::kInvalid, transfer.what() + ": the value of header " + name + " has several lines");
    }
    transfer.header_list = curl_slist_append(transfer.header_list, (name + ": " + value).c_str());
    return {};
  };
  for (const auto& [name, value] : request.headers) MESH_CHECK(add_header(name, value));
  for (const Credential& credential : settings.credentials) {
    std::string value = credential.value;
    if (!credential.file.empty()) {
      value = trim(MESH_TRY(base::read_file(credential.file, kMaxCredentialBytes)));
    }
    if (!value.empty()) MESH_CHECK(add_header(credential.header, credential.prefix + value));
  }

  // libcurl verifies the host of the URL. So the URL names the host to verify, and connect-to the one to connect to.
  std::string url = request.url;
  const UrlParts parts = split(request.url);
  if (parts.scheme == "https://") {
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls.verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls.verify ? 2L : 0L);
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, kSystemStoreSeconds);
    MESH_CHECK(set_pem(easy, CURLOPT_CAINFO_BLOB, tls.ca));
    MESH_CHECK(set_pem(easy, CURLOPT_SSLCERT_BLOB, tls.certificate));
    MESH_CHECK(set_pem(easy, CURLOPT_SSLKEY_BLOB, tls.key));
    if (!tls.server_name.empty()) {
      const auto bracket = parts.authority.rfind(']');
      const auto colon = parts.authority.rfind(':');
      const bool has_port = colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
      const std::string port(has_port ? parts.authority.substr(colon + 1) : "443");
      const std::string host(has_port ? parts.authority.substr(0, colon) : parts.authority);
      const bool v6 = tls.server_name.contains(':');
      url = "https://" + (v6 ? "[" + tls.server_name + "]" : tls.server_name) + ":" + port + std::string(parts.rest);
      transfer.connect_to = curl_slist_append(nullptr, ("::" + host + ":" + port).c_str());
      curl_easy_setopt(easy, CURLOPT_CONNECT_TO, transfer.connect_to);
      if (find_header(request.headers, "Host") == nullptr) MESH_CHECK(add_header("Host", std::string(parts.authority)));
    }
  }
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  if (request.gzip) curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
  if (request.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  if (!request.body.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    MESH_CHECK(add_header("Expect", ""));  // no waiting for a 100
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.header_list);
  return {};
}

std::unique_ptr<Fetcher::Transfer> Fetcher::State::take(Id id) {
  const auto found = transfers.find(id);
  if (found == transfers.end()) return nullptr;
  std::unique_ptr<Transfer> transfer = std::move(found->second);
  transfers.erase(found);
  curl_multi_remove_handle(multi, transfer->easy);
  return transfer;
}

void Fetcher::State::collect(std::vector<Finished>& finished) {
  int queued = 0;
  while (const CURLMsg* const message = curl_multi_info_read(multi, &queued)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    void* owner = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
    const auto transfer = take(static_cast<Transfer*>(owner)->id);
    finished.push_back({transfer->id, transfer->result(code)});
  }
}

void Fetcher::State::end_idle(base::TimePoint now, std::vector<Finished>& finished) {
  std::vector<Id> idle;
  for (const auto& [id, transfer] : transfers) {
    const milliseconds limit = transfer->request.no_progress;
    if (limit.count() > 0 && now - transfer->last_byte >= limit) idle.push_back(id);
  }
  for (const Id id : idle) {
    const auto transfer = take(id);
    finished.push_back({id, base::fail(ErrorKind::kTimeout,
                                       transfer->what() + ": nothing came for " +
                                           std::to_string(transfer->request.no_progress.count()) + " ms",
                                       "the server accepts connections but does not answer: look at it")});
  }
}

milliseconds Fetcher::State::time_left(base::TimePoint now, milliseconds timeout) const {
  for (const auto& [id, transfer] : transfers) {
    const milliseconds limit = transfer->request.no_progress;
    if (limit.count() == 0) continue;
    timeout = std::min(timeout, std::chrono::ceil<milliseconds>(transfer->last_byte + limit - now));
  }
  return std::max(timeout, milliseconds(0));
}

Fetcher::Fetcher(FetchSettings settings) {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  MESH_ASSERT(global == CURLE_OK);
  state_ = std::make_unique<State>(std::move(settings), curl_multi_init());
  MESH_ASSERT(state_->multi != nullptr);
}

Fetcher::~Fetcher() {
  for (const auto& [id, transfer] : state_->transfers) curl_multi_remove_handle(state_->multi, transfer->easy);
  state_->transfers.clear();
  curl_multi_cleanup(state_->multi);
}

base::Result<Fetcher::Id> Fetcher::begin(FetchRequest request) {
  CURL* const easy = curl_easy_init();
  MESH_ASSERT(easy != nullptr);
  const Id id = state_->next_id++;
  auto transfer =
      std::make_unique<Transfer>(id, std::move(request), easy, nullptr, nullptr, base::steady_now(), &state_->activity);
  MESH_CHECK(state_->prepare(*transfer));
  curl_multi_add_handle(state_->multi, easy);
  state_->transfers.emplace(id, std::move(transfer));
  return id;
}

std::vector<Fetcher::Finished> Fetcher::run(milliseconds timeout, int wake_fd) {
  std::vector<Finished> finished;
  const base::TimePoint end = base::steady_now() + timeout;
  state_->activity = false;
  state_->woken = false;
  while (true) {
    int running = 0;
    curl_multi_perform(state_->multi, &running);
    state_->collect(finished);
    const base::TimePoint now = base::steady_now();
    state_->end_idle(now, finished);
    if (!finished.empty() || state_->activity || now >= end) return finished;
    curl_waitfd wake{.fd = wake_fd, .events = CURL_WAIT_POLLIN, .revents = 0};
    const milliseconds left = state_->time_left(now, std::chrono::ceil<milliseconds>(end - now));
    curl_multi_poll(state_->multi, wake_fd >= 0 ? &wake : nullptr, wake_fd >= 0 ? 1 : 0,
                    static_cast<int>(std::min<std::int64_t>(left.count(), INT32_MAX)), nullptr);
    if (wake.revents != 0) {
      state_->woken = true;
      return finished;
    }
  }
}

void Fetcher::cancel(Id id) { state_->take(id); }

std::size_t Fetcher::active() const { return state_->transfers.size(); }

base::Result<FetchResponse> Fetcher::fetch(FetchRequest request, int wake_fd) {
  const std::string what = request.method + " " + public_url(request.url);
  MESH_ASSERT(active() == 0);
  const Id id = MESH_TRY(begin(std::move(request)));
  while (true) {
    std::vector<Finished> finished = run(std::chrono::hours(1), wake_fd);
    if (!finished.empty()) return std::move(finished.front().result);
    if (state_->woken) {
      cancel(id);
      return base::fail(ErrorKind::kUnavailable, what + ": given up, because the agent stops or has other settings");
    }
  }
}

std::optional<std::chrono::seconds> parse_retry_after(std::string_view value, base::WallTime now,
                                                      std::chrono::seconds most) {
  value = trim(value);
  std::uint64_t seconds = 0;
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (problem == std::errc::result_out_of_range) return most;
  if (problem != std::errc{} || end != value.data() + value.size()) {
    const std::time_t date = value.empty() ? -1 : curl_getdate(std::string(value).c_str(), nullptr);
    if (date < 0) return std::nullopt;
    const auto left = std::chrono::ceil<std::chrono::seconds>(std::chrono::system_clock::from_time_t(date) - now);
    seconds = static_cast<std::uint64_t>(std::clamp<std::int64_t>(left.count(), 0, most.count()));
  }
  return std::chrono::seconds(std::min<std::uint64_t>(seconds, static_cast<std::uint64_t>(most.count())));
}

base::Error status_error(const FetchResponse& response, std::string_view what) {
  std::string message =
      std::string(what) + ": " + std::to_string(response.status) + " " + std::string(reason_phrase(response.status));
  std::string quote(trim(std::string_view(response.body).substr(0, kMaxQuotedBody)));
  std::replace_if(quote.begin(), quote.end(), [](char c) { return c >= 0 && c < ' '; }, ' ');
  if (!quote.empty()) message += ": " + quote;
  switch (response.status) {
    case 401:
      return {ErrorKind::kPermission, message, "check the token or client certificate: the server does not know it", 0};
    case 403:
      return {ErrorKind::kPermission, message, "give the agent's identity the right to read this", 0};
    case 404:
      return {ErrorKind::kNotFound, message, "", 0};
    default:
      return {response.status == 429 || response.status >= 500 ? ErrorKind::kUnavailable : ErrorKind::kInvalid, message,
              "", 0};
  }
}

std::string public_url(std::string_view url) {
  const UrlParts parts = split(url);
  return std::string(parts.scheme) + std::string(parts.authority) +
         std::string(parts.rest.substr(0, parts.rest.find_first_of("?#")));
}

std::string url_encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").contains(c);
    if (plain) {
      encoded += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += '%';
      encoded += kDigits[byte >> 4];
      encoded += kDigits[byte & 15];
    }
  }
  return encoded;
}

}  // namespace mesh::http
