// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/clock.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery {
namespace {

using base::TimePoint;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr std::string_view kUnix = "unix://";
constexpr auto kSlowestBody = 60s;      // from its first byte to its last
constexpr auto kLongestPause = 1000ms;  // between two looks at what is due

http::FetchSettings fetch_settings(const ConsulSettings& settings) {
  http::FetchSettings fetch;
  if (!settings.token_file.empty()) {
    fetch.credentials.push_back({.header = "X-Consul-Token", .prefix = "", .value = "", .file = settings.token_file});
  }
  fetch.tls = fetch_tls(settings.tls);
  if (settings.address.starts_with(kUnix)) fetch.unix_socket = settings.address.substr(kUnix.size());
  fetch.connect_timeout = std::min<milliseconds>(settings.timeout, 5s);
  return fetch;
}

/// One life of the connection to Consul.
class Run {
 public:
  Run(const ConsulSettings& settings, ConsulWatch& watch, Feed& feed)
      : base_(settings.address.starts_with(kUnix) ? "http://localhost" : settings.address),
        watch_(watch),
        feed_(feed),
        fetcher_(fetch_settings(settings)) {}

  base::Result<void> go() {
    watch_.restart();
    while (!feed_.stopping()) {
      MESH_CHECK(ask(base::steady_now()));
      const auto finished = fetcher_.run(pause(base::steady_now()), feed_.wake_fd());
      if (feed_.stopping()) break;
      base::Result<void> result = take(finished);
      for (base::Error& error : watch_.take_reports()) feed_.report(std::move(error));
      tell();
      if (!result) return result;
    }
    return {};
  }

 private:
  base::Result<void> ask(TimePoint now) {
    ConsulWatch::Step step = watch_.step(now);
    for (const ConsulWatch::AskId id : step.cancel) {
      const auto found = std::ranges::find(asks_, id, &decltype(asks_)::value_type::second);
      if (found == asks_.end()) continue;
      fetcher_.cancel(found->first);
      asks_.erase(found);
    }
    for (ConsulWatch::Ask& one : step.start) {
      http::FetchRequest request;
      request.url = base_ + one.target;
      request.no_progress = one.no_progress;
      request.deadline = one.no_progress + kSlowestBody;
      request.body_limit = kMaxConsulBody;
      asks_.emplace(MESH_TRY(fetcher_.begin(std::move(request))), one.id);
    }
    return {};
  }

  [[nodiscard]] milliseconds pause(TimePoint now) const {
    TimePoint until = std::min(now + kLongestPause, watch_.wake_at());
    if (unsaid_) until = std::min(until, pace_.due());
    return std::max(0ms, std::chrono::ceil<milliseconds>(until - now));
  }

  base::Result<void> take(const std::vector<http::Fetcher::Finished>& finished) {
    for (const auto& [id, response] : finished) {
      const auto found = asks_.find(id);
      const ConsulWatch::AskId ask = found->second;
      asks_.erase(found);
      if (!response) return std::unexpected(response.error());
      if (response->retry_after) feed_.leave_alone_for(*response->retry_after);
      MESH_CHECK(watch_.answered(ask, *response, base::steady_now()));
      unsaid_ = true;
    }
    return {};
  }

  /// Publishes what changed. Many changes of many services are put together, so that publishing leaves time for asking.
  void tell() {
    const TimePoint now = base::steady_now();
    if (!unsaid_ || now < pace_.due()) return;
    unsaid_ = false;
    pace_.begin();
    auto exchanged = watch_.take_exchanged();
    auto services = exchanged.empty() ? watch_.take_update() : std::nullopt;
    if (services || !exchanged.empty()) {
      services ? feed_.publish(std::move(*services)) : feed_.exchange(std::move(exchanged));
      pace_.end();
      if (!watch_.is_fresh()) feed_.report(watch_.trouble());
    } else if (watch_.is_fresh()) {
      feed_.confirm();
    }
  }

  const std::string base_;
  ConsulWatch& watch_;
  Feed& feed_;
  http::Fetcher fetcher_;
  std::unordered_map<http::Fetcher::Id, ConsulWatch::AskId> asks_;
  bool unsaid_ = false;  // answers came since the last tell()
  PublishPace pace_;
};

std::unique_ptr<Registry> make_consul(const ConsulSettings& settings, RegistryContext context) {
  return std::make_unique<ConsulRegistry>(settings, std::move(context));
}

void finish_consul_settings(Decoder& decoder, const Value& value, ConsulSettings& settings) {
  if (settings.services.empty()) {
    decoder.warn(value, "takes no services from Consul", "name some below services, or write services: [all]");
  }
  if (const Value* const tls = value.find("tls"); tls != nullptr && !settings.address.starts_with("https://")) {
    decoder.warn(*tls, "does nothing without https", "write the address as https://");
  }
}

}  // namespace

ConsulRegistry::ConsulRegistry(ConsulSettings settings, RegistryContext context)
    : settings_(settings),
      watch_(std::move(settings), ConsulMapper(std::move(context.policy), context.known), context.seed) {}

base::Result<void> ConsulRegistry::run(Feed& feed) {
  if (settings_.services.empty()) {
    feed.publish({});
    while (feed.wait(std::chrono::hours(1))) feed.confirm();
    return {};
  }
  return Run(settings_, watch_, feed).go();
}

const RegistryType kConsulRegistry = registry_type<ConsulSettings, make_consul, finish_consul_settings>(
    "consul", "Services of a Consul server or agent; of sources of type consul.", kConsulTable, "consul_rule",
    &kConsulRuleTable);

}  // namespace mesh::discovery
