// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "discovery/dns_resolver.hpp"
#include "discovery/file_watcher.hpp"

namespace mesh::discovery {
namespace {

constexpr base::log::Logger kLog{"dns"};
constexpr std::size_t kMaxInFlight = 64;
constexpr std::size_t kMaxServers = 8;
constexpr std::size_t kMaxResolvConf = 64 << 10;
constexpr auto kLongestWait = std::chrono::seconds(60);
constexpr auto kConfirmInterval = std::chrono::seconds(60);

base::Result<std::vector<base::SocketAddress>> servers_of(const DnsSettings& settings) {
  std::vector<base::SocketAddress> servers;
  for (const std::string& text : settings.servers) servers.push_back(MESH_TRY(parse_dns_server(text)));
  if (!servers.empty()) return servers;
  const std::string text = MESH_TRY(base::read_file(settings.resolv_conf, kMaxResolvConf));
  servers = parse_resolv_conf(text);
  if (servers.empty()) {
    return base::fail(base::ErrorKind::kInvalid, "read " + settings.resolv_conf + ": it names no resolver",
                      "add a nameserver line, or name resolvers in dns.servers");
  }
  return servers;
}

/// One run: resolvers as they are now, until they change or the run has to end.
class Session {
 public:
  Session(const DnsSettings& settings, DnsBook& book, Feed& feed) : settings_(settings), book_(book), feed_(feed) {}

  base::Result<void> run() {
    if (settings_.servers.empty()) {
      watcher_.emplace(MESH_TRY(FileWatcher::make()));
      watcher_->add(settings_.resolv_conf);
    }
    servers_ = MESH_TRY(servers_of(settings_));
    MESH_CHECK(open());
    book_.forget_asked();
    while (!feed_.stopping()) {
      const base::TimePoint now = base::steady_now();
      for (const DnsQuestion& question : book_.take_due(now, kMaxInFlight - resolver_->in_flight())) {
        resolver_->ask(question);
      }
      tell();
      wait();
      if (watcher_ && !watcher_->take_changes().empty()) MESH_CHECK(reread());
    }
    return {};
  }

 private:
  base::Result<void> open() {
    resolver_ = MESH_TRY(DnsResolver::make(
        {servers_, settings_.timeout, settings_.tries},
        [this](const DnsQuestion& question, base::Result<DnsAnswer> answer) { take(question, std::move(answer)); }));
    return {};
  }

  base::Result<void> reread() {
    auto servers = servers_of(settings_);
    if (!servers) {  // somebody is writing it: the resolvers of before are better than none
      feed_.report(servers.error());
      return {};
    }
    if (*servers == servers_) return {};
    servers_ = std::move(*servers);
    kLog.info("resolvers changed", {{"file", settings_.resolv_conf}, {"resolvers", servers_.size()}});
    MESH_CHECK(open());
    book_.forget_asked();
    book_.ask_all_again(base::steady_now());
    return {};
  }

  void take(const DnsQuestion& question, base::Result<DnsAnswer> answer) {
    const base::TimePoint now = base::steady_now();
    if (answer) {
      book_.answer(question, *answer, now);
      answered_ = true;
    } else {
      book_.fail(question, now);
      failure_ = std::move(answer).error();
      failed_ = true;
    }
  }

  /// Between rounds of questions: what changed, or that all is as it was, or what could not be asked.
  void tell() {
    if (!book_.complete()) return;
    const bool answered = std::exchange(answered_, false);
    const bool failed = std::exchange(failed_, false);
    const std::size_t failing = book_.failing();
    const base::TimePoint now = base::steady_now();
    bool told = false;
    if (book_.changed() && book_.answered()) {
      feed_.publish(share(book_.services()));
      told = true;
    } else if (answered && (failing == 0 || now >= confirm_at_)) {
      feed_.confirm();
      told = true;
    }
    if (told) confirm_at_ = now + kConfirmInterval;
    // Stale while a name can't be asked, and not older than the last answer to another.
    if (failing == 0 || (!failed && !told)) return;
    base::Error error = failure_;
    if (failing > 1) error.message += fmt::format(" (and {} of {} more)", failing - 1, book_.questions());
    feed_.report(std::move(error));
  }

  void wait() {
    std::vector<pollfd> waits = resolver_->waits();
    const std::size_t of_resolver = waits.size();
    waits.push_back({feed_.wake_fd(), POLLIN, 0});
    if (watcher_) waits.push_back({watcher_->fd(), POLLIN, 0});
    base::Duration left = kLongestWait;
    if (resolver_->in_flight() < kMaxInFlight)
      left = std::min<base::Duration>(left, book_.next_due() - base::steady_now());
    const auto at_most = std::chrono::ceil<std::chrono::milliseconds>(std::max(left, base::Duration::zero()));
    ::poll(waits.data(), waits.size(), static_cast<int>(resolver_->patience(at_most).count()));
    waits.resize(of_resolver);
    resolver_->drive(waits);
  }

  const DnsSettings& settings_;
  DnsBook& book_;
  Feed& feed_;
  std::optional<FileWatcher> watcher_;
  std::vector<base::SocketAddress> servers_;
  std::unique_ptr<DnsResolver> resolver_;
  bool answered_ = false;
  bool failed_ = false;
  base::Error failure_;           ///< The last one.
  base::TimePoint confirm_at_{};  ///< While some names fail, answers to others are told no sooner.
};

std::unique_ptr<Registry> make_dns(const DnsSettings& settings, RegistryContext context) {
  return std::make_unique<DnsRegistry>(settings, std::move(context));
}

}  // namespace

std::vector<base::SocketAddress> parse_resolv_conf(std::string_view text) {
  constexpr std::string_view kKey = "nameserver";
  constexpr std::string_view kBlank = " \t\r";
  std::vector<base::SocketAddress> servers;
  while (!text.empty() && servers.size() < kMaxServers) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(kKey)) continue;
    line.remove_prefix(kKey.size());
    const std::size_t begin = line.find_first_not_of(kBlank);
    if (begin == 0 || begin == std::string_view::npos) continue;
    line = line.substr(begin, line.find_first_of(kBlank, begin) - begin);
    if (const auto server = parse_dns_server(std::string(line))) servers.push_back(*server);
  }
  return servers;
}

DnsRegistry::DnsRegistry(const DnsSettings& settings, RegistryContext context)
    : settings_(settings), book_(settings, std::move(context.policy), std::move(context.known), context.seed) {}

base::Result<void> DnsRegistry::run(Feed& feed) {
  if (settings_.services.empty()) {
    feed.publish({});
    while (feed.wait(kLongestWait)) feed.confirm();
    return {};
  }
  return Session(settings_, book_, feed).run();
}

const RegistryType kDnsRegistry = registry_type<DnsSettings, make_dns, finish_dns_settings>(
    "dns", "Names with A and AAAA or SRV records; of sources of type dns.", kDnsTable, "dns_service",
    &kDnsServiceTable);

}  // namespace mesh::discovery
