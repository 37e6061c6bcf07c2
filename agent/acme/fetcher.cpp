// SPDX-License-Identifier: Apache-2.0
#include "acme/fetcher.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "acme/jws.hpp"
#include "base/log.hpp"

namespace mesh::acme {
namespace {

constexpr base::log::Logger kLog{"acme"};
constexpr auto kLook = std::chrono::minutes(1);          // at the clock, which may have been set
constexpr auto kPrepareAgain = std::chrono::seconds(5);  // another relay may still retire
constexpr std::size_t kKeyFileBytesMax = 4096;
constexpr std::chrono::seconds kRetryAfterMax{24 * 3600};

const std::string& header_of(const http::Headers& headers, std::string_view name) {
  static const std::string kNone;
  const std::string* found = http::find_header(headers, name);
  return found == nullptr ? kNone : *found;
}

}  // namespace

CertificateFetcher::CertificateFetcher(std::uint64_t seed)
    : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), random_(seed) {
  MESH_ASSERT(wake_.valid());
  thread_ = std::thread([this] { run(); });
  ::pthread_setname_np(thread_.native_handle(), "acme");
}

CertificateFetcher::~CertificateFetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void CertificateFetcher::set(const Settings& settings) {
  const std::lock_guard lock(mutex_);
  if (settings_ == settings) return;
  settings_ = settings;
  changed_ = true;
  ::eventfd_write(wake_.get(), 1);
}

std::vector<Standing> CertificateFetcher::standing() const {
  const std::lock_guard lock(mutex_);
  return standing_;
}

std::string CertificateFetcher::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

bool CertificateFetcher::stopped() const {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void CertificateFetcher::run() {
  while (!stopped()) {
    const bool changed = take_settings();
    if (changed || !folder_) {
      const auto prepared = prepare();
      const std::string problem = prepared ? "" : prepared.error().to_string();
      {
        const std::lock_guard lock(mutex_);
        if (std::exchange(error_, problem) != problem && !problem.empty()) {
          kLog.error("no certificates are fetched", {{"err", prepared.error()}});
        }
      }
    }
    if (folder_) work(base::wall_now());
    publish();
    sleep(folder_ ? until_due() : kPrepareAgain);
  }
}

/// True if they are others.
bool CertificateFetcher::take_settings() {
  const std::lock_guard lock(mutex_);
  eventfd_t value = 0;
  ::eventfd_read(wake_.get(), &value);
  if (!std::exchange(changed_, false)) return false;
  current_ = settings_;
  return true;
}

base::Result<void> CertificateFetcher::prepare() {
  std::vector<Entry> before = std::exchange(entries_, {});
  http_.reset();
  folder_.reset();
  renewal_info_.clear();
  if (current_.directory.empty()) return {};
  folder_ = MESH_TRY(Folder::open(current_.folder));
  http::FetchSettings http;
  http.tls.ca.file = current_.ca;
  http_ = std::make_unique<http::Fetcher>(std::move(http));
  for (const CertificateSettings& wanted : current_.certificates) {
    Entry entry{.wanted = wanted, .schedule = Schedule(current_.renew_before)};
    entry.standing = {.name = wanted.name, .names = wanted.names};
    if (const auto same = std::ranges::find(before, wanted.name, [](const Entry& one) { return one.wanted.name; });
        same != before.end()) {
      entry.standing.issued = same->standing.issued;
      entry.standing.failures = same->standing.failures;
    }
    read(entry);
    entries_.push_back(std::move(entry));
  }
  return {};
}

/// What the folder has, if it is for these names and from this issuer.
void CertificateFetcher::read(Entry& entry) {
  const auto stored = folder_->read(entry.wanted.name);
  entry.schedule.hold(std::nullopt);
  entry.standing.issuer.clear();
  entry.standing.expires.reset();
  if (!stored) return;
  const tls::CertificateFacts& facts = stored->certificate->facts();
  entry.standing.issuer = facts.issuer;
  entry.standing.expires = facts.not_after;
  const bool covers = std::ranges::all_of(entry.wanted.names, [&](const std::string& name) {
    return std::ranges::find(facts.dns_names, name) != facts.dns_names.end();
  });
  if (!covers || stored->directory != current_.directory) return;
  entry.schedule.hold(Validity{facts.not_before, facts.not_after});
  entry.renewal_name = renewal_name(stored->certificate->chain_pem());
}

void CertificateFetcher::work(base::WallTime now) {
  for (Entry& entry : entries_) {
    if (const auto ask_at = entry.schedule.ask_at(); ask_at && now >= *ask_at) ask_window(entry);
    if (now >= entry.schedule.due()) issue(entry);
    const std::lock_guard lock(mutex_);
    if (stop_ || changed_) return;
  }
}

void CertificateFetcher::issue(Entry& entry) {
  kLog.info("fetching a certificate", {{"name", entry.wanted.name}, {"directory", current_.directory}});
  auto result = [&]() -> base::Result<std::variant<Issued, Failed>> {
    const tls::PrivateKey key = tls::PrivateKey::make(current_.key_type);
    Wish wish{.directory = current_.directory,
              .names = entry.wanted.names,
              .challenge = current_.challenge,
              .contact = current_.contact,
              .binding_kid = current_.eab.kid,
              .account_key = MESH_TRY(folder_->account_key()),
              .request = key.request(entry.wanted.names),
              .replaces = entry.schedule.ask_at() ? entry.renewal_name : ""};
    if (!wish.binding_kid.empty()) {
      std::string text = MESH_TRY(base::read_file(current_.eab.key, kKeyFileBytesMax));
      std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; });
      const auto bytes = base64url_decode(text);
      if (!bytes || bytes->empty()) {
        return base::fail(base::ErrorKind::kInvalid, "use the key " + current_.eab.key + ": it is no base64url",
                          "write it as the issuer gave it to you");
      }
      wish.binding_key = *bytes;
    }
    const auto account = folder_->account();
    const bool known = account && account->directory == current_.directory;
    if (known) wish.account = account->url;
    wish.contact_changed = known && account->contact != current_.contact;
    Issuance issuance(std::move(wish));
    auto end = drive(issuance);
    renewal_info_ = issuance.directory().renewal_info;
    if (const Account now{current_.directory, issuance.account(), current_.contact};
        !now.url.empty() && issuance.contact_known() && account != now) {
      MESH_CHECK(folder_->write_account(now));
    }
    if (const auto* const issued = std::get_if<Issued>(&end)) MESH_CHECK(store(entry, key, issued->chain));
    return end;
  }();
  present(std::nullopt);
  {
    const std::lock_guard lock(mutex_);
    if (stop_ || changed_) return;  // given up: what is wanted now begins anew
  }
  std::optional<std::chrono::seconds> retry_after;
  std::optional<base::Error> error;
  if (!result) {
    error = result.error();
  } else if (auto* const failed = std::get_if<Failed>(&*result)) {
    error = std::move(failed->error);
    retry_after = failed->retry_after;
  }
  if (error) {
    ++entry.standing.failures;
    entry.standing.error = error->to_string();
    entry.schedule.failed(retry_after, base::wall_now(), random_);
    kLog.error(entry.standing.issuer.empty() ? "no certificate" : "certificate not renewed: the one before stays",
               {{"name", entry.wanted.name}, {"err", *error}, {"again", base::format_rfc3339(entry.schedule.due())}});
    return;
  }
  ++entry.standing.issued;
  entry.standing.error.clear();
  entry.schedule.issued();
  read(entry);
  kLog.info("certificate fetched", {{"name", entry.wanted.name},
                                    {"issuer", entry.standing.issuer},
                                    {"next", base::format_rfc3339(entry.schedule.due())}});
}

/// Nothing is written that a listener would refuse.
base::Result<void> CertificateFetcher::store(Entry& entry, const tls::PrivateKey& key, const std::string& chain) {
  const auto certificate = tls::Certificate::parse(chain, key.pem());
  if (!certificate) return std::unexpected(base::Error(certificate.error()).within("take what the issuer sent"));
  for (const std::string& name : entry.wanted.names) {
    const auto& dns_names = (*certificate)->facts().dns_names;
    if (std::ranges::find(dns_names, name) != dns_names.end()) continue;
    return base::fail(base::ErrorKind::kInvalid, "take what the issuer sent: it is not for " + name);
  }
  return folder_->write(entry.wanted.name, current_.directory, key.pem(), chain);
}

std::variant<Issued, Failed> CertificateFetcher::drive(Issuance& issuance) {
  while (true) {
    const Step step = issuance.next(base::steady_now());
    if (const auto* const issued = std::get_if<Issued>(&step)) return *issued;
    if (const auto* const failed = std::get_if<Failed>(&step)) return *failed;
    if (const auto* const wait = std::get_if<Wait>(&step)) {
      if (sleep(wait->until - base::steady_now())) continue;
    } else {
      present(issuance.presented());
      auto answer = ask(std::get<Send>(step));
      const std::lock_guard lock(mutex_);
      if (!stop_ && !changed_) {
        issuance.answered(answer, base::steady_now());
        continue;
      }
    }
    return Failed{{base::ErrorKind::kUnavailable, "given up: other settings, or the relay stops", "", 0}, {}};
  }
}

/// It can be seen once this returns.
void CertificateFetcher::present(const std::optional<Presented>& wanted) {
  if (presented_ == wanted) return;
  if (presented_) board_.certificates->set(presented_->name, nullptr);
  board_.clear_tokens();
  presented_ = wanted;
  if (!wanted) return;
  if (current_.challenge == Challenge::kHttp01) {
    board_.set_token(wanted->token, wanted->key_authorization);
  } else {
    board_.certificates->set(wanted->name, tls::challenge_certificate(
                                               wanted->name, tls::sha256(wanted->key_authorization), base::wall_now()));
  }
}

void CertificateFetcher::ask_window(Entry& entry) {
  const auto asked = [&]() -> base::Result<std::pair<Window, std::optional<std::chrono::seconds>>> {
    if (renewal_info_.empty()) {
      const Answer answer = MESH_TRY(ask({"GET", current_.directory, ""}));
      const Directory directory = MESH_TRY(parse_directory(answer.body));
      renewal_info_ = directory.renewal_info;
    }
    if (renewal_info_.empty() || entry.renewal_name.empty()) {
      return base::fail(base::ErrorKind::kUnsupported, "ask when to renew: the issuer does not say");
    }
    const Answer answer = MESH_TRY(ask({"GET", renewal_info_ + "/" + entry.renewal_name, ""}));
    if (!answer.ok()) {
      return base::fail(base::ErrorKind::kUnavailable, "ask when to renew: status " + std::to_string(answer.status));
    }
    return std::pair(MESH_TRY(parse_renewal_info(answer.body)), answer.retry_after);
  }();
  const base::WallTime now = base::wall_now();
  if (asked) {
    entry.schedule.suggested(asked->first, asked->second, now, random_);
  } else if (asked.error().kind == base::ErrorKind::kUnsupported) {
    entry.schedule.not_suggested(kAskAgainMax, now);
  } else {
    entry.schedule.not_suggested(std::nullopt, now);
    kLog.warn("no window for a renewal", {{"name", entry.wanted.name}, {"err", asked.error()}});
  }
}

base::Result<Answer> CertificateFetcher::ask(const Send& send) {
  http::FetchRequest request{.method = send.method, .url = send.url, .body = send.body, .body_limit = kAnswerBytesMax};
  if (!send.body.empty()) request.headers.emplace_back("Content-Type", "application/jose+json");
  const http::FetchResponse response = MESH_TRY(http_->fetch(std::move(request), wake_.get()));
  return Answer{.status = response.status,
                .body = response.body,
                .nonce = header_of(response.headers, "Replay-Nonce"),
                .location = header_of(response.headers, "Location"),
                .retry_after = http::parse_retry_after(header_of(response.headers, "Retry-After"), base::wall_now(),
                                                       kRetryAfterMax)};
}

base::Duration CertificateFetcher::until_due() const {
  base::Duration first = kLook;
  const base::WallTime now = base::wall_now();
  for (const Entry& entry : entries_) {
    first = std::min<base::Duration>(first, entry.schedule.due() - now);
    if (const auto ask_at = entry.schedule.ask_at()) first = std::min<base::Duration>(first, *ask_at - now);
  }
  return std::max<base::Duration>(first, std::chrono::seconds(1));
}

/// False: there is something else to do now.
bool CertificateFetcher::sleep(base::Duration duration) {
  pollfd ready{wake_.get(), POLLIN, 0};
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  if (::poll(&ready, 1, static_cast<int>(std::clamp<std::int64_t>(milliseconds, 0, INT32_MAX))) > 0) {
    eventfd_t value = 0;
    ::eventfd_read(wake_.get(), &value);
  }
  const std::lock_guard lock(mutex_);
  return !stop_ && !changed_;
}

void CertificateFetcher::publish() {
  std::vector<Standing> standing;
  for (Entry& entry : entries_) {
    entry.standing.next = std::max(entry.schedule.due(), base::wall_now());
    standing.push_back(entry.standing);
  }
  const std::lock_guard lock(mutex_);
  standing_ = std::move(standing);
}

}  // namespace mesh::acme
