// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr milliseconds kSlowestBody = 60s;  // from its first byte to its last

/// One life of the connections to the servers.
class Run {
 public:
  Run(const EurekaSettings& settings, EurekaWatch& watch, Feed& feed)
      : settings_(settings),
        watch_(watch),
        feed_(feed),
        fetcher_({.tls = fetch_tls(settings.tls), .connect_timeout = std::min<milliseconds>(settings.timeout, 5s)}) {}

  base::Result<void> go() {
    watch_.restart(base::steady_now());
    while (!feed_.stopping()) {
      const auto pause = std::chrono::ceil<milliseconds>(watch_.due() - base::steady_now());
      if (pause > 0ms && !feed_.wait(pause)) break;
      auto taken = read();
      if (feed_.stopping()) break;
      for (base::Error& error : watch_.take_reports()) feed_.report(std::move(error));
      if (!taken) {
        if (!watch_.ask_another(base::steady_now())) return std::unexpected(std::move(taken).error());
        feed_.report(std::move(taken).error());
      } else if (*taken == EurekaWatch::Taken::kCurrent) {
        tell();
      }
    }
    return {};
  }

 private:
  base::Result<EurekaWatch::Taken> read() {
    http::FetchRequest request{.url = watch_.ask().url,
                               .headers = {{"Accept", "application/json"}},
                               .deadline = settings_.timeout + kSlowestBody,
                               .no_progress = settings_.timeout,
                               .body_limit = kMaxEurekaBody,
                               .gzip = true};
    if (!settings_.credentials_file.empty()) {
      request.headers.emplace_back("Authorization", MESH_TRY(authorization()));
    }
    const http::FetchResponse response = MESH_TRY(fetcher_.fetch(std::move(request), feed_.wake_fd()));
    if (response.retry_after) feed_.leave_alone_for(*response.retry_after);
    return watch_.answered(response, base::steady_now());
  }

  base::Result<std::string> authorization() const {
    const std::string& file = settings_.credentials_file;
    std::string text = MESH_TRY(base::read_file(file, http::kMaxCredentialBytes));
    text.erase(std::find_if(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n'; }), text.end());
    if (!text.contains(':')) {
      return base::fail(base::ErrorKind::kInvalid, "read " + file + ": its first line is not user:password",
                        "write both there, with a colon between them");
    }
    return basic_authorization(text);
  }

  void tell() {
    if (auto services = watch_.take_update()) {
      feed_.publish(std::move(*services));
    } else {
      feed_.confirm();
    }
  }

  const EurekaSettings& settings_;
  EurekaWatch& watch_;
  Feed& feed_;
  http::Fetcher fetcher_;
};

std::unique_ptr<Registry> make_eureka(const EurekaSettings& settings, RegistryContext context) {
  return std::make_unique<EurekaRegistry>(settings, std::move(context));
}

}  // namespace

EurekaRegistry::EurekaRegistry(EurekaSettings settings, RegistryContext context)
    : settings_(std::move(settings)), watch_(settings_, std::move(context.policy), context.seed) {}

base::Result<void> EurekaRegistry::run(Feed& feed) { return Run(settings_, watch_, feed).go(); }

std::string basic_authorization(std::string_view user_and_password) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text = "Basic ";
  for (std::size_t i = 0; i < user_and_password.size(); i += 3) {
    const std::string_view part = user_and_password.substr(i, 3);
    unsigned bits = 0;
    for (std::size_t byte = 0; byte < 3; ++byte) {
      bits = bits << 8 | (byte < part.size() ? static_cast<unsigned char>(part[byte]) : 0U);
    }
    for (std::size_t digit = 0; digit < 4; ++digit) {
      text += digit <= part.size() ? kDigits[bits >> (18 - 6 * digit) & 63] : '=';
    }
  }
  return text;
}

const RegistryType kEurekaRegistry = registry_type<EurekaSettings, make_eureka, finish_eureka_settings>(
    "eureka", "Applications of Netflix or Spring Cloud Eureka; of sources of type eureka.", kEurekaTable, "eureka_rule",
    &kEurekaRuleTable);

}  // namespace mesh::discovery
